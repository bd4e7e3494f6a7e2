package main

import (
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/useargus/argus/proof"
)

func newCmdProof(f *factory) *cobra.Command {
	return newCmdNoun("proof", "Proof files: what anyone can check without a server",
		"  argusctl proof check call.tlog-proof --key example.com/audit+1f2e3d4c+AX…", newCmdProofCheck(f))
}

func newCmdProofCheck(f *factory) *cobra.Command {
	p := &pins{}
	cmd := &cobra.Command{
		Use:   "check <file>",
		Short: "Is this call in the signed log as the file shows it? Exit 0, 9 or 10",
		Long: `Checks a proof file offline: its form, the row's hash, its leaf and the way to the root. The pinned key must have signed
the checkpoint. It speaks to no server. docs/proof.md shows how to check the file with nothing of ARGUS.

Exit code 0: proven. 9: disproved. 10: undecided, since the file is empty or cut off, or signed by no pinned key.`,
		Example: `  argusctl proof check call.tlog-proof --key example.com/audit+1f2e3d4c+AX…
  argusctl proof check call.tlog-proof --policy witnesses.policy`,
		Args: exactly("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := p.opener()
			if err != nil {
				return err
			}
			return f.decide(cmd.Context(), func(context.Context) (*result, error) { return f.checkFile(o, args[0]) })
		},
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	p.flags(cmd)
	return cmd
}

func (f *factory) checkFile(o *opener, name string) (*result, error) {
	in, err := f.openInput(name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, proof.MaxFile+1))
	if err != nil {
		return nil, err
	}
	r := &result{leaf: proof.NoLeaf}
	file, err := proof.ParseFile(b)
	if err != nil {
		r.Add(err)
		return r, nil
	}
	c, row, err := file.Check(o.open)
	r.Checkpoint, r.leaf = c, file.Index
	if len(file.Row) > 0 {
		r.row = &row
	}
	r.Add(err)
	if err == nil {
		r.entry = &file.Entry
		if r.Counts = (proof.Counts{Leaves: c.Size, InScope: 1}); r.row != nil {
			r.Counts.Rows = 1
		}
	}
	return r, nil
}
