package dev

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// ChildOptions say what [StartChild] runs.
type ChildOptions struct {
	Program   string // the evento program
	Dir       string // data directory; must exist
	StackFile string
	SchemaDir string
	Kafka     string // bootstrap servers; empty: embedded
	Redis     string // empty: embedded
	Out       io.Writer
	Limit     time.Duration // to be ready; building is part of it
}

// Child is `evento dev` as a process of its own, so that what it costs can be
// told from what its caller costs.
type Child struct {
	State  State
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // valid when exited is closed
}

// StartChild starts `evento dev` on a free port and returns when it is ready.
// When it does not get so far, nothing is left running.
func StartChild(ctx context.Context, o ChildOptions) (*Child, error) {
	free, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	// The port where tools expect Kafka is left to whoever develops here meanwhile.
	if err := (ports{Kafka: free[1]}).write(o.Dir); err != nil {
		return nil, err
	}
	args := []string{"dev", "--dir", o.Dir, "--port", strconv.Itoa(free[0]), "--stack", o.StackFile, "--schemas", o.SchemaDir}
	if o.Kafka != "" {
		args = append(args, "--kafka-property", "bootstrap.servers="+o.Kafka)
	}
	if o.Redis != "" {
		args = append(args, "--redis", o.Redis)
	}
	c := &Child{cmd: exec.Command(o.Program, args...), exited: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = o.Out, o.Out
	ownGroup(c.cmd)
	dieWithParent(c.cmd)
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // see dieWithParent
		defer runtime.UnlockOSThread()
		defer close(c.exited)
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", o.Program, err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Limit, fmt.Errorf("evento dev was not ready within %s", o.Limit))
	defer cancel()
	for {
		c.State, err = ReadState(o.Dir)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, errors.Join(err, c.Stop())
		}
		select {
		case <-c.exited:
			return nil, fmt.Errorf("evento dev ended before it was ready: %s", howItEnded(c.err))
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), c.Stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Stop ends the child and waits for it. A second call does nothing.
func (c *Child) Stop() error {
	const limit = 50 * time.Second
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-c.exited:
		if c.err != nil {
			return fmt.Errorf("evento dev ended: %s", howItEnded(c.err))
		}
		return nil
	case <-timer.C:
		killGroup(c.cmd.Process.Pid)
		<-c.exited
		return fmt.Errorf("evento dev did not stop within %s and was killed", limit)
	}
}
