package provider

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"time"
)

// LocalName is the provider of argusd dev: its workers are processes of this machine.
const LocalName = "local"

// localWorkerCommand is argusd's hidden subcommand that a local worker runs.
const localWorkerCommand = "local-worker"

// LocalConfig says where local workers belong.
type LocalConfig struct {
	// Dir is the data folder they belong to. Workers of one folder are never seen from another. They end by themselves soon
	// after it is gone. It must exist.
	Dir string

	// Program is the executable that understands "local-worker" (RunLocalWorker); "" means this one.
	Program string
}

// absolute brings the folder into the one form that stands in the workers' arguments.
func (c LocalConfig) absolute() (LocalConfig, error) {
	dir, err := filepath.Abs(c.Dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return c, err
	}
	c.Dir = dir
	if c.Program == "" {
		c.Program, err = os.Executable()
	}
	return c, err
}

// RunLocalWorker is the fixed program of the local provider: it does nothing until a signal ends it, or its
// data folder is gone. args are those behind "local-worker": --dir FOLDER WORKER_ID.
func RunLocalWorker(args []string) error {
	flags := flag.NewFlagSet(localWorkerCommand, flag.ContinueOnError)
	dir := flags.String("dir", "", "the data folder the worker belongs to")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || flags.NArg() != 1 {
		return errors.New("usage: argusd local-worker --dir FOLDER WORKER_ID (started by the local provider alone)")
	}
	for {
		if _, err := os.Stat(*dir); errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(2 * time.Second)
	}
}
