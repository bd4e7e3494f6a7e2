package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
	"github.com/useargus/argus/proof"
)

type proveOptions struct {
	file      string
	wait      time.Duration
	witnessed bool
	hashOnly  bool
}

func newCmdLogsProve(f *factory) *cobra.Command {
	o := &proveOptions{}
	cmd := &cobra.Command{
		Use:   "prove <id>",
		Short: "Write the proof that a call is in the signed log",
		Long: `Writes a proof file (C2SP tlog-proof): the call's row, the way to the root of the signed tree, and the checkpoint.
Anyone who has the log's public key can check it without a server: argusctl proof check, or a program of twenty lines as
docs/proof.md shows. A call is sealed about a second after it was answered; --wait waits for that.

Exit code 10 when the call is not sealed yet.`,
		Example: `  argusctl logs prove $(argusctl logs show --last --method POST -o name) -o call.tlog-proof
  argusctl logs prove $(argusctl logs show --last -o name) --hash-only -o -`,
		Args:              exactly("id of the call"),
		ValidArgsFunction: completeCallIDs,
		RunE:              func(cmd *cobra.Command, args []string) error { return proveRun(cmd.Context(), f, o, args[0]) },
	}
	cmd.Flags().StringVarP(&o.file, "output", "o", "", "write this `file` (- is standard output); else <id>.tlog-proof")
	cmd.Flags().DurationVar(&o.wait, "wait", 5*time.Second, "wait this `time` for the call to be sealed")
	cmd.Flags().BoolVar(&o.witnessed, "witnessed", false, "prove against a checkpoint that a witness has cosigned")
	cmd.Flags().BoolVar(&o.hashOnly, "hash-only", false, "leave the row out: the proof shows hashes and no content")
	return cmd
}

func proveRun(ctx context.Context, f *factory, o *proveOptions, arg string) error {
	id, err := checkCallID(arg)
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if o.hashOnly {
		query.Set("hash_only", "true")
	}
	if o.witnessed {
		query.Set("witnessed", "true")
	}
	deadline := f.now().Add(o.wait)
	var b []byte
	for {
		b, err = c.text(ctx, "/v1/audit-log/"+id+"/proof", query)
		var api *apiError
		if !errors.As(err, &api) || api.Code != argus.CodeNotSealed {
			break
		}
		if !f.now().Before(deadline) {
			f.notice("%s", harmless(api.Message))
			return &verdictError{proof.Undecided}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(min(time.Second, max(o.wait/10, 100*time.Millisecond))):
		}
	}
	if err != nil {
		return err
	}
	file, err := proof.ParseFile(b)
	if err != nil {
		return badAnswer(err)
	}
	size := int64(0)
	if at, err := proof.CheckpointOf(file.Note); err == nil {
		size = at.Size
	}
	if len(file.Row) > 0 {
		var row argus.Record
		if err := proof.ParseRow(file.Row, &row); err != nil || row.ID.String() != id {
			return badAnswer(errors.Join(err, errors.New("it is the proof of another call")))
		}
	}
	name := o.file
	switch name {
	case "-":
		_, err := f.io.out.Write(b)
		return err
	case "":
		name = id + ".tlog-proof"
	}
	if err := writeWhole(name, b); err != nil {
		return err
	}
	f.notice("%s: leaf %d in checkpoint %d, %s. Check it with: argusctl proof check %s --key VKEY", harmless(name), file.Index, size, formatBytes(int64(len(b))), harmless(name))
	return nil
}

// writeWhole writes a file under its name when it is whole.
func writeWhole(name string, b []byte) error {
	part, err := os.CreateTemp(filepath.Dir(name), ".part-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = part.Write(b)
	if err = errors.Join(err, part.Chmod(0o644), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), name)
}

// text asks for an answer that is no JSON.
func (c *client) text(ctx context.Context, path string, query url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, &netError{Message: fmt.Sprintf("%s did not answer within %s.", c.base.Host, formatDuration(c.timeout))})
	defer cancel()
	resp, err := c.open(ctx, request{method: http.MethodGet, path: path, query: query, header: http.Header{"Accept": {"text/plain"}}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, proof.MaxFile+1))
	if err != nil {
		return nil, c.netError(ctx, err)
	}
	return b, nil
}
