package engines

import (
	"context"
	"os/exec"
	"syscall"
	"time"
)

// Child is a process started by StartChild, with the lifetime rule of the engines: it never outlives the
// process that started it. argusd dev runs the API and the replicator as such.
type Child struct{ p *process }

// StartChild starts the command in a process group of its own. When this process dies, however it dies, the
// child is sent onDeath.
func StartChild(cmd *exec.Cmd, onDeath syscall.Signal) (*Child, error) {
	p, err := start(cmd, onDeath)
	if err != nil {
		return nil, err
	}
	if err := bindLifetime(p); err != nil {
		p.signal(syscall.SIGKILL)
		<-p.done
		return nil, err
	}
	return &Child{p}, nil
}

// PID of the child.
func (c *Child) PID() int { return c.p.pid() }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.p.done }

// Err says how it ended; nil after exit code 0. Call it after Done.
func (c *Child) Err() error { return c.p.err }

// Stop asks the child to end (SIGTERM) and kills it when it has not within the grace or ctx.
func (c *Child) Stop(ctx context.Context, grace time.Duration) error {
	if err := c.p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if c.p.wait(ctx, grace) {
		return nil
	}
	err := c.p.signal(syscall.SIGKILL)
	<-c.p.done
	return err
}
