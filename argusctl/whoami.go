package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

func newCmdWhoami(f *factory) *cobra.Command {
	return &cobra.Command{
		Use:     "whoami",
		Short:   "Who the credential belongs to, and what it may do",
		Example: "  argusctl whoami\n  argusctl whoami --profile production",
		Args:    atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return whoamiRun(ctx, f) })
		},
	}
}

// operator is the answer of GET /v1/operators/me.
type operator struct {
	ActorID        string          `json:"actor_id"`
	ImpersonatorID string          `json:"impersonator_id"`
	ActorKind      argus.ActorKind `json:"actor_kind"`
	Name           string          `json:"name"`
	Email          string          `json:"email"`
	PATID          string          `json:"pat_id"`
	Agent          string          `json:"agent"`
	ExpiresAt      string          `json:"expires_at"`
	Preset         string          `json:"preset"`
	Scopes         []string        `json:"scopes"`
}

func whoamiRun(ctx context.Context, f *factory) error {
	c, err := f.client()
	if err != nil {
		return err
	}
	var me operator
	a, err := c.get(ctx, "/v1/operators/me", nil, &me)
	if err != nil {
		return err
	}
	s, err := f.settings()
	if err != nil {
		return err
	}
	switch how, _ := f.format(); how {
	case asJSON:
		return f.jsonLine(withKeys(a.body, "server", c.base.String(), "profile", s.profile))
	case asCSV:
		return usageErrorf("CSV is not available for whoami. Use --json.")
	}
	from := "ARGUS_URL and " + s.source.from()
	if s.profile != "" {
		from = "profile " + s.profile
		if given := s.source.from(); given != from {
			from += ", token from " + given
		}
	}
	pairs := []cell{
		txt("operator"), txt(nameAndID(me.Name, me.ActorID)).in(bold),
		txt("email"), txt(me.Email),
		txt("credential"), txt(string(me.ActorKind)),
	}
	if end, err := time.Parse(time.RFC3339Nano, me.ExpiresAt); err == nil {
		pairs = append(pairs, txt("expires"), txt(f.expiry(end)))
	}
	if me.PATID != "" {
		pairs = append(pairs, txt("token id"), txt(me.PATID))
	}
	if me.Agent != "" {
		pairs = append(pairs, txt("agent"), txt(me.Agent))
	}
	if me.ImpersonatorID != "" {
		pairs = append(pairs, txt("really"), txt(me.ImpersonatorID).in(yellow))
	}
	return f.fields(append(pairs,
		txt("preset"), txt(me.Preset),
		txt("scopes"), txt(strings.Join(me.Scopes, " ")),
		txt("server"), txt(c.base.String()),
		txt("from"), txt(from))...)
}

// expiry is when a credential ends, and in how long.
func (f *factory) expiry(end time.Time) string {
	text := end.UTC().Format(time.RFC3339)
	if left := end.Sub(f.now()).Round(time.Second); left > 0 {
		text += ", in " + formatDuration(left)
	}
	return text
}

// who is a person once: by the name on a terminal, unless two people have it, and by name and id where nothing is cut.
func (f *factory) who(id string, names map[string]string, how format) string {
	name := names[id]
	if name == "" || how != short || f.io.width() == 0 {
		return nameAndID(name, id)
	}
	for other, n := range names {
		if n == name && other != id {
			return nameAndID(name, id)
		}
	}
	return name
}

// nameAndID shows a name beside its id; the id alone when there is no name.
func nameAndID(name, id string) string {
	if name == "" || name == id {
		return id
	}
	return name + " (" + id + ")"
}

// withKeys adds keys and values (texts, null when empty) to the end of a JSON object.
func withKeys(object []byte, pairs ...string) []byte {
	object = bytes.TrimSpace(object)
	if len(object) < 2 || object[0] != '{' || object[len(object)-1] != '}' {
		return object
	}
	out := append([]byte(nil), object[:len(object)-1]...)
	comma := json.Valid(object) && len(bytes.TrimSpace(out[1:])) > 0
	for i := 0; i+1 < len(pairs); i += 2 {
		if comma {
			out = append(out, ',')
		}
		comma = true
		out = append(argus.AppendJSONString(out, pairs[i]), ':')
		if pairs[i+1] == "" {
			out = append(out, "null"...)
		} else {
			out = argus.AppendJSONString(out, pairs[i+1])
		}
	}
	return append(out, '}')
}
