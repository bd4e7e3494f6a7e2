package credential

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/useargus/argus"
)

// Rights is what a person may do at this moment. Why is not "" when they may not sign in.
type Rights struct {
	Scopes []argus.Scope
	Why    string
}

// Rights gives what people may do, of those it can find out within issuerPatience. Others are missing.
func (v *Verifier) Rights(ctx context.Context, ids []string) map[string]Rights {
	ctx, cancel := context.WithTimeout(ctx, issuerPatience)
	defer cancel()
	var mu sync.Mutex
	found := map[string]Rights{}
	var g errgroup.Group
	g.SetLimit(8)
	for _, id := range ids {
		g.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			o, err := v.ownerOf(ctx, id)
			var p *argus.Error
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				found[id] = Rights{Scopes: argus.ExpandScopes(o.scopes)}
			case ReasonOf(err) == reasonOwner && errors.As(err, &p):
				found[id] = Rights{Why: p.Message}
			}
			return nil
		})
	}
	_ = g.Wait()
	return found
}

// DeclaredWorkload is an actor that the rules of an issuer let in, with all that they give it.
type DeclaredWorkload struct {
	ActorID string
	Scopes  []argus.Scope
}

// Workloads are the actors of all rules, sorted.
func (v *Verifier) Workloads() []DeclaredWorkload {
	scopes := map[string][]argus.Scope{}
	for _, i := range v.issuers {
		for _, r := range i.Rules {
			id := i.Name + ":" + r.Actor
			scopes[id] = append(scopes[id], r.Scopes...)
		}
	}
	var all []DeclaredWorkload
	for id, names := range scopes {
		all = append(all, DeclaredWorkload{id, argus.ExpandScopes(names)})
	}
	slices.SortFunc(all, func(a, b DeclaredWorkload) int { return strings.Compare(a.ActorID, b.ActorID) })
	return all
}
