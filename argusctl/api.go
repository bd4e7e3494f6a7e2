package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

// apiMethods are what `argusctl api` sends.
var apiMethods = []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions}

// changes reports whether a call of the method has effects, as the server sees it.
func changes(method string) bool {
	return method != http.MethodGet && method != http.MethodHead && method != http.MethodOptions
}

type apiOptions struct {
	mutationOptions
	fields, raw []string
	input       string
	reason      string
	confirm     string
	include     bool
}

func newCmdAPI(f *factory) *cobra.Command {
	o := &apiOptions{}
	cmd := &cobra.Command{
		Use:   "api <method> <path>",
		Short: "Call any route, of ARGUS or of a service behind it",
		Long: `Calls a route and prints its answer. A JSON answer is indented on a terminal. In a pipe every answer is printed as it
came, and streams pass through. An error answer is printed as well, and sets the exit code.

Fields (-F) make a JSON object of a request that has a body, and parameters of the query otherwise. A value that is
true, false, null or a whole number is sent as such, @FILE as the file's text and @- as standard input's. -f sends
every value as text. "a[b]=1" sets a key inside of a, "a[]=1" adds to a list, and "a[]" alone is an empty list.
--input sends a file as the body, - being standard input. Fields then go into the query.

Redirects are not followed. A call that changes something is sent once. It is never repeated by itself, since its
service may not know idempotency keys.`,
		Example: `  argusctl api GET /svc/sample/v1/items
  argusctl api POST /svc/sample/v1/items/1/retire --reason "bar"
  argusctl api POST /svc/sample/v1/items -F name=lamp -F count=3 -F 'tags[]=new' --reason "spring sale"
  argusctl api GET /svc/sample/v1/events`,
		Args:              exactly("method", "path"),
		ValidArgsFunction: f.completeAPI,
		RunE: func(cmd *cobra.Command, args []string) error {
			if changes(strings.ToUpper(args[0])) {
				return apiRun(cmd.Context(), f, o, args[0], args[1])
			}
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return apiRun(ctx, f, o, args[0], args[1]) })
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&o.fields, "field", "F", nil, "a typed `key=value` of the body or the query; may be repeated")
	flags.StringArrayVarP(&o.raw, "raw-field", "f", nil, "a `key=value` that is text as it stands")
	flags.StringVar(&o.input, "input", "", "send this `file` as the body; - is standard input")
	addReasonFlag(cmd, &o.reason, "why: a `text` of 3 to 500 characters, sent as Argus-Reason")
	flags.StringVar(&o.confirm, "confirm", "", "the `value` that the route wants repeated: sent as Argus-Confirm")
	flags.BoolVarP(&o.include, "include", "i", false, "print the status line and the headers of the answer, too")
	o.addFlags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("field", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("raw-field", cobra.NoFileCompletions)
	_ = cmd.RegisterFlagCompletionFunc("confirm", cobra.NoFileCompletions)
	return cmd
}

func apiRun(ctx context.Context, f *factory, o *apiOptions, method, path string) error {
	if how, _ := f.format(); how == asCSV || how == wide {
		return usageErrorf("The answer is the route's own: --output %s does not apply.", f.output)
	}
	f.raw = true
	r, err := o.request(f, method, path)
	if err != nil {
		return err
	}
	if o.dryRun {
		return f.printDryRun(r)
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	resp, err := c.exchange(ctx, r)
	if err != nil {
		return r.explain(err)
	}
	defer resp.Body.Close()
	if o.include {
		if err := f.printHead(resp); err != nil {
			return err
		}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 && f.selects != nil {
		body, err := io.ReadAll(io.LimitReader(readingErrors{resp.Body}, maxAnswer))
		if err != nil {
			return c.brokenOff(ctx, err)
		}
		return f.jsonLine(body)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		if err := f.passOn(resp); err != nil {
			return c.brokenOff(ctx, err)
		}
		return nil
	}
	// What the answer says is for programs and people alike; what it means is the error.
	said, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.brokenOff(ctx, err)
	}
	no := c.apiError(resp, r, said)
	resp.Body = io.NopCloser(bytes.NewReader(said))
	if no.Code == "" || !f.io.outTerminal { // ARGUS's own errors are told below
		if err := f.passOn(resp); err != nil {
			return err
		}
	}
	return no
}

// request reads the command line into a request. Nothing is sent yet.
func (o *apiOptions) request(f *factory, method, path string) (request, error) {
	r := request{method: strings.ToUpper(method), key: o.key, header: http.Header{"Accept": {"*/*"}}}
	if !slices.Contains(apiMethods, r.method) {
		return r, usageErrorf("There is no method %q. Write one of %s.", method, strings.Join(apiMethods, ", "))
	}
	u, err := parsePath(path)
	if err != nil {
		return r, err
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return r, usageErrorf("The query of %q cannot be read: escape %% as %%25.", path)
	}
	r.path, r.raw, r.query = u.EscapedPath(), u.RawQuery, url.Values{}
	effects := changes(r.method)
	if effects {
		if r.key == "" {
			r.key = uuid.NewString()
		}
	} else if r.key != "" {
		return r, usageErrorf("--idempotency-key is for calls that change something; %s does not.", r.method)
	}
	if len(r.key) > 255 || checkToken(r.key) != nil {
		return r, usageErrorf("--idempotency-key: write up to 255 visible ASCII characters.")
	}
	if o.reason != "" {
		if err := checkReason(o.reason); err != nil {
			return r, err
		}
		reason, _ := argus.Reason(o.reason) // a header has one line
		r.header.Set(argus.ReasonHeader, argus.ReasonValue(reason))
	}
	if o.confirm != "" {
		if !validHeader(o.confirm) {
			return r, usageErrorf("--confirm holds a character that no header may have.")
		}
		r.header.Set("Argus-Confirm", o.confirm)
	}
	in := &fieldInput{f: f, taken: o.input == "-"}
	fields := object{}
	for _, field := range o.fields {
		if err := fields.add(field, in.typed); err != nil {
			return r, err
		}
	}
	for _, field := range o.raw {
		if err := fields.add(field, func(s string) (any, error) { return s, nil }); err != nil {
			return r, err
		}
	}
	switch {
	case o.input != "":
		in, err := f.openInput(o.input)
		if err != nil {
			return r, usageErrorf("--input: %v", err)
		}
		defer in.Close()
		if r.body, err = io.ReadAll(in); err != nil {
			return r, fmt.Errorf("--input: %w", err)
		}
		if r.body == nil {
			r.body = []byte{}
		}
		if !json.Valid(r.body) {
			r.header.Set("Content-Type", "application/octet-stream")
		}
		return r, fields.query(r.query)
	case len(fields) == 0:
		return r, nil
	case !effects:
		return r, fields.query(r.query)
	}
	r.body, err = encodeBody(fields)
	return r, err
}

// parsePath reads a path with its query. Nothing but this server can be meant.
func parsePath(path string) (*url.URL, error) {
	if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return nil, usageErrorf("The path begins with one slash, like /svc/sample/v1/items.")
	}
	for _, c := range path {
		if c <= ' ' || c == 0x7f || c == utf8.RuneError {
			return nil, usageErrorf("The path holds a blank or a control character: escape it, a blank as %%20.")
		}
	}
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil, usageErrorf("The path cannot be read: escape %% as %%25.")
	}
	return u, nil
}

func validHeader(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }) && strings.TrimSpace(s) == s
}

// exchange makes a request once and returns the answer, of any status. Redirects are answers.
func (c *client) exchange(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	once := *c.http
	once.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := once.Do(req)
	if err != nil {
		return nil, c.netError(ctx, err)
	}
	return resp, nil
}

// brokenOff is what became of reading an answer. An error of standard output stays itself.
func (c *client) brokenOff(ctx context.Context, err error) error {
	var reading *readingError
	if errors.As(err, &reading) {
		return c.netError(ctx, reading.error)
	}
	return err
}

type readingError struct{ error }

// printHead prints the status line and the headers, one a line.
func (f *factory) printHead(resp *http.Response) error {
	if _, err := fmt.Fprintf(f.io.out, "%s %s\n", resp.Proto, f.visible(resp.Status)); err != nil {
		return err
	}
	names := make([]string, 0, len(resp.Header))
	for name := range resp.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, value := range resp.Header[name] {
			if _, err := fmt.Fprintf(f.io.out, "%s: %s\n", f.visible(name), f.visible(value)); err != nil {
				return err
			}
		}
	}
	return f.io.out.WriteByte('\n')
}

// visible is s for a terminal or, in a pipe, as it is.
func (f *factory) visible(s string) string {
	if f.io.outTerminal {
		return harmless(s)
	}
	return s
}

// passOn prints a body: in a pipe its bytes as they come, on a terminal JSON indented and nothing that the terminal
// would act on.
func (f *factory) passOn(resp *http.Response) error {
	if !f.io.outTerminal {
		return f.asItComes(resp.Body, func(b []byte) ([]byte, int) { return b, len(b) })
	}
	var body io.Reader = resp.Body
	if kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); kind == "application/json" || strings.HasSuffix(kind, "+json") {
		whole, err := io.ReadAll(io.LimitReader(readingErrors{body}, maxAnswer+1))
		if err != nil {
			return err
		}
		var pretty bytes.Buffer
		if how, _ := f.format(); len(whole) <= maxAnswer && how != asJSON && json.Indent(&pretty, bytes.TrimSpace(whole), "", "  ") == nil {
			for line := range bytes.Lines(append(pretty.Bytes(), '\n')) {
				f.io.out.Write(append(harmlessJSON(bytes.TrimSuffix(line, []byte("\n"))), '\n'))
			}
			return nil
		}
		body = io.MultiReader(bytes.NewReader(whole), body)
	}
	return f.asItComes(body, harmlessPart)
}

// asItComes prints what r has as it arrives. shown makes of bytes what is printed, and says how many it took: the others
// are shown again with what follows them.
func (f *factory) asItComes(r io.Reader, shown func([]byte) ([]byte, int)) error {
	r = readingErrors{r}
	buffer, held := make([]byte, 64<<10), 0
	for {
		n, err := r.Read(buffer[held:])
		part, taken := shown(buffer[:held+n])
		if err != nil { // nothing follows
			part = append(part, harmless(string(buffer[taken:held+n]))...)
		}
		if _, failed := f.io.out.Write(part); failed != nil {
			return failed
		}
		held = copy(buffer, buffer[taken:held+n])
		if failed := f.io.out.Flush(); failed != nil {
			return failed
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// harmlessPart is harmlessLines for a part of a text. It leaves a character that is not whole yet, and a carriage return
// whose line feed may follow.
func harmlessPart(b []byte) ([]byte, int) {
	n := len(b)
	for cut := 1; cut < utf8.UTFMax && cut <= n; cut++ {
		if utf8.RuneStart(b[n-cut]) {
			if !utf8.FullRune(b[n-cut:]) {
				n -= cut
			}
			break
		}
	}
	if n > 0 && b[n-1] == '\r' {
		n--
	}
	return []byte(harmlessLines(strings.ReplaceAll(string(b[:n]), "\r\n", "\n"))), n
}

// readingErrors marks the errors of a body.
type readingErrors struct{ io.Reader }

func (r readingErrors) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		err = &readingError{err}
	}
	return n, err
}
