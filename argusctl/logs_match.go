package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/useargus/argus"
)

type matchOptions struct{ body string }

func newCmdLogsMatch(f *factory) *cobra.Command {
	o := &matchOptions{}
	cmd := &cobra.Command{
		Use:   "match <id>",
		Short: "Check a file against what a call submitted",
		Long: `Checks a file against the digest of the call's request body. ARGUS stores only the body's SHA-256, not the body.
A match proves that the file is, to the byte, what was submitted. Exit code 0: match; 9: no match.`,
		Example: `  argusctl logs match $(argusctl logs show --last --method POST -o name) --body request.json
  argusctl tenant arm UTD_7ELEVEN_001 --reason "ride-along" --dry-run | tail -n 1 | argusctl logs match $(argusctl logs show --last --route '/v1/tenants/:id/arm' -o name) --body -`,
		Args:              exactly("id of the call"),
		ValidArgsFunction: completeCallIDs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.whileRead(cmd.Context(), func(ctx context.Context) error { return matchRun(ctx, f, o, args[0]) })
		},
	}
	cmd.Flags().StringVar(&o.body, "body", "", "the `file` to compare, - being standard input")
	return cmd
}

// digests of the given text: as it is, without its last newline, and with one more. An editor or a shell most often changes
// a file in these ways.
type digests struct {
	size            int64
	own, less, more [sha256.Size]byte
	endsInNewline   bool
}

func digestOf(r io.Reader) (*digests, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	d := &digests{size: int64(len(data)), own: sha256.Sum256(data), more: sha256.Sum256(append(data[:len(data):len(data)], '\n'))}
	if d.size > 0 && data[d.size-1] == '\n' {
		d.endsInNewline = true
		d.less = sha256.Sum256(data[:d.size-1])
	}
	return d, nil
}

func matchRun(ctx context.Context, f *factory, o *matchOptions, arg string) error {
	id, err := checkCallID(arg)
	if err != nil {
		return err
	}
	if o.body == "" {
		return usageErrorf("Give the file to compare with --body.")
	}
	in, err := f.openInput(o.body)
	if err != nil {
		return err
	}
	d, err := digestOf(in)
	in.Close()
	if err != nil {
		return err
	}
	c, err := f.client()
	if err != nil {
		return err
	}
	var row struct {
		BodySHA256 *string `json:"body_sha256"`
		BodyBytes  int64   `json:"body_bytes"`
	}
	if _, err := c.get(ctx, "/v1/audit-log/"+id, nil, &row); err != nil {
		return err
	}
	own := hex.EncodeToString(d.own[:])
	match := row.BodySHA256 != nil && *row.BodySHA256 == own
	if how, _ := f.format(); how == asJSON {
		object, err := json.Marshal(struct {
			ID         string  `json:"id"`
			Match      bool    `json:"match"`
			BodySHA256 *string `json:"body_sha256"`
			BodyBytes  int64   `json:"body_bytes"`
			FileSHA256 string  `json:"file_sha256"`
			FileBytes  int64   `json:"file_bytes"`
		}{id, match, row.BodySHA256, row.BodyBytes, own, d.size})
		if err != nil {
			return err
		}
		if err := f.jsonLine(object); err != nil {
			return err
		}
	} else if match {
		_, err = fmt.Fprintf(f.io.out, "match: %s is what was submitted (%s, SHA-256 %s)\n", harmless(fileName(o.body)), argus.Counted(d.size, "byte"), own)
	} else if row.BodySHA256 == nil {
		_, err = fmt.Fprintf(f.io.out, "no match: the row holds no digest, since the body was cut off or over the limit (%s were read)\n", argus.Counted(row.BodyBytes, "byte"))
	} else {
		_, err = fmt.Fprintf(f.io.out, "no match: %s has %s, SHA-256 %s\n          submitted were %s, SHA-256 %s\n",
			harmless(fileName(o.body)), argus.Counted(d.size, "byte"), own, argus.Counted(row.BodyBytes, "byte"), harmless(*row.BodySHA256))
	}
	if err != nil || match {
		return err
	}
	if row.BodySHA256 != nil {
		switch *row.BodySHA256 {
		case hex.EncodeToString(d.more[:]):
			f.notice("It would match with a newline at its end.")
		case hex.EncodeToString(d.less[:]):
			if d.endsInNewline {
				f.notice("It would match without the newline at its end.")
			}
		}
	}
	return errNegative
}

func fileName(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}
