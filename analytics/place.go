package analytics

import (
	"context"
	"maps"
	"sync"

	"github.com/useargus/argus"
)

// MaxPlace is the length in bytes of the longest token of a place: that of about 4,000 open writers. It fits into a
// request's headers.
const MaxPlace = 48 << 10

var errPlace = argus.Errorf(argus.CodeInvalidCursor,
	"This is no place to follow from. Search again and follow from the snapshot of the answer, or from the id of a stream's event.")

// mark is a position that changes no more, and the token for it. All followers that come to a mark share it, so its token
// is made once, and only when one of them gives an event there.
type mark struct {
	argus.Position
	once  sync.Once
	token string
}

func at(p argus.Position) *mark { return &mark{Position: p} }

// place gives the mark with its token.
func (m *mark) place(key []byte) (argus.Place, error) {
	m.once.Do(func() {
		if text := seal(key, appendPosition([]byte{0, byte(cursorPlace)}, m.Position)); len(text) <= MaxPlace {
			m.token = text
		}
	})
	if m.token == "" {
		return argus.Place{}, argus.Errorf(argus.CodeUnavailable, "The log has too many open writers to be followed. Search it instead.")
	}
	return argus.Place{Position: m.Position, Token: m.token}, nil
}

// Place reads the token of a place, which a search's snapshot or a stream's event gave. "" is the place of now: behind
// every row that is committed. Any other text is CodeInvalidCursor.
func (a *Analytics) Place(ctx context.Context, token string) (argus.Place, error) {
	if token == "" {
		c, err := a.readCut(ctx, everything, nil)
		if err != nil {
			return argus.Place{}, postgresFailure(ctx, err)
		}
		return at(c.Snapshot).place(a.config.CursorKey)
	}
	if len(token) > MaxPlace {
		return argus.Place{}, errPlace
	}
	body := unseal(a.config.CursorKey, token)
	r := cursorReader{rest: body}
	if kind := cursorKind(r.byte()); kind != cursorPlace {
		return argus.Place{}, errPlace
	}
	p := r.position()
	if r.failed || len(r.rest) > 0 {
		return argus.Place{}, errPlace
	}
	return argus.Place{Position: p, Token: token}, nil
}

// within leaves out of p what Postgres does not have: writers that do not exist, and rows that a writer has not
// committed. A Postgres that was restored to an earlier moment may have lost both and will number other rows alike.
func (c *cut) within(p argus.Position) argus.Position {
	q := argus.Position{ClosedThrough: min(p.ClosedThrough, c.Newest), Writers: maps.Clone(p.Writers)}
	for w, seq := range q.Writers {
		has, ok := c.Seqs[w]
		if !ok {
			delete(q.Writers, w)
			continue
		}
		q.Writers[w] = min(seq, has)
	}
	return q
}
