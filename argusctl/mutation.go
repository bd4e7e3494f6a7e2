package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// mutationOptions are what every command has that changes something.
type mutationOptions struct {
	dryRun bool
	key    string // --idempotency-key; one of its own when empty
}

func (o *mutationOptions) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the exact request and send nothing")
	cmd.Flags().StringVar(&o.key, "idempotency-key", "", "send this `key`. Safe to retry: the same key is never executed twice")
}

func addReasonFlag(cmd *cobra.Command, reason *string, usage string) {
	cmd.Flags().StringVar(reason, "reason", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.NoFileCompletions)
}

// checkReason rejects what the server would reject. It sends the reason as it was given.
func checkReason(reason string) error {
	if strings.TrimSpace(reason) == "" {
		return usageErrorf("Give a --reason: it is kept with the audit row.")
	}
	_, err := argus.Reason(reason)
	var known *argus.Error
	if errors.As(err, &known) {
		return usageErrorf("%s", known.Message)
	}
	return err
}

// encodeBody makes the bytes of a request body. They end in a newline, so that what --dry-run prints is what
// would be sent, to the byte, and they hold no character that a terminal would act on.
func encodeBody(body any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(body); err != nil {
		return nil, err
	}
	text := b.Bytes()
	return append(harmlessJSON(text[:len(text)-1]), '\n'), nil
}

// mutate makes a call that changes something, or with --dry-run shows it: then the answer is nil. body may be
// nil.
func (f *factory) mutate(ctx context.Context, o mutationOptions, method, path string, body any) (*answer, error) {
	r := request{method: method, path: path, key: o.key}
	if body != nil {
		var err error
		if r.body, err = encodeBody(body); err != nil {
			return nil, err
		}
	}
	if len(o.key) > 255 || checkToken(o.key) != nil {
		return nil, usageErrorf("--idempotency-key: write up to 255 visible ASCII characters.")
	}
	if o.dryRun {
		return nil, f.printDryRun(r)
	}
	if r.key == "" {
		r.key = uuid.NewString()
	}
	c, err := f.client()
	if err != nil {
		return nil, err
	}
	return c.call(ctx, r)
}

func (f *factory) printDryRun(r request) error {
	how, err := f.format()
	if err != nil {
		return err
	}
	path := r.path
	if query := r.rawQuery(); query != "" {
		path += "?" + query
	}
	headers := map[string]string{}
	for name := range r.header {
		if strings.HasPrefix(name, "Argus-") {
			headers[name] = r.header.Get(name)
		}
	}
	if how == asJSON {
		object, err := json.Marshal(struct {
			Method  string            `json:"method"`
			Path    string            `json:"path"`
			Headers map[string]string `json:"headers,omitempty"`
			Body    *string           `json:"body"`
		}{r.method, path, headers, optional(string(r.body))})
		if err != nil {
			return err
		}
		return f.jsonLine(object)
	}
	_, err = fmt.Fprintf(f.io.out, "%s %s\n", r.method, harmless(path))
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		fmt.Fprintf(f.io.out, "%s: %s\n", name, harmless(headers[name]))
	}
	if err == nil && r.body != nil {
		_, err = fmt.Fprintf(f.io.out, "\n%s", r.body)
	}
	return err
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// said tells a person what was done and under which audit id, unless it was only shown (a is nil).
func (f *factory) said(a *answer, format string, args ...any) {
	if a == nil {
		return
	}
	message := fmt.Sprintf(format, args...)
	if a.header.Get("Idempotent-Replayed") == "true" {
		message += " (the answer of an earlier call with the same key)"
	}
	if a.auditID != "" {
		message += "\naudit id " + a.auditID
	}
	f.notice("%s", message)
}

// confirm asks a person to type a word. Without a terminal it returns an error that names the flag to give instead.
func (f *factory) confirm(question, word, flag string) error {
	if !f.io.canAsk() {
		return usageErrorf("%s Confirm with %s.", question, flag)
	}
	fmt.Fprintf(f.io.err, "%s Type %s to confirm: ", harmless(question), f.io.errStyle(bold, harmless(word)))
	line, err := bufio.NewReader(f.io.in).ReadString('\n')
	if strings.TrimSpace(line) != word {
		if err != nil {
			fmt.Fprintln(f.io.err)
		}
		return fmt.Errorf("not confirmed, nothing was done")
	}
	return nil
}
