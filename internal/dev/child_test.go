package dev

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

func childOptions(t *testing.T) ChildOptions {
	t.Helper()
	return ChildOptions{
		Program: os.Args[0], Dir: t.TempDir(), StackFile: "testdata/stack.yml", SchemaDir: "testdata",
		Out: &lockedBuffer{}, Limit: 5 * time.Minute, // everything is compiled
	}
}

func TestChildStartsAndStops(t *testing.T) {
	o := childOptions(t)
	o.Kafka, o.Redis = "127.0.0.1:1", "127.0.0.1:2" // it is told, not asked
	c, err := StartChild(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, o.Out)
	}
	if c.State.PID != c.cmd.Process.Pid || c.State.Kafka != o.Kafka || c.State.Redis != o.Redis {
		t.Errorf("it runs %+v", c.State)
	}
	a := ask(t, c.State.Functions[0].URL)
	for range 2 { // the second does nothing
		if err := c.Stop(); err != nil {
			t.Errorf("%v\n%s", err, o.Out)
		}
	}
	for _, pid := range []int{c.State.PID, a.PID, a.Child} {
		eventually(t, "all are gone", func() bool { return gone(pid) })
	}
}

func TestChildThatCannotStart(t *testing.T) {
	o := childOptions(t)
	o.StackFile = stackOf(t, "checking-handler", "dies")
	if c, err := StartChild(t.Context(), o); err == nil {
		c.Stop()
		t.Fatal("no error")
	} else if !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("the error is %v", err)
	}
	o = childOptions(t)
	o.Limit = time.Millisecond
	if c, err := StartChild(t.Context(), o); err == nil {
		c.Stop()
		t.Fatal("no error")
	} else if !strings.Contains(err.Error(), "not ready within 1ms") {
		t.Errorf("the error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := StartChild(ctx, childOptions(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v (%v)", err, c)
	}
}

// Nothing can be done when we are killed, so the kernel must do it.
func TestFunctionsEndWhenItIsKilled(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux can end the functions of a killed process")
	}
	o := childOptions(t)
	c, err := StartChild(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, o.Out)
	}
	for _, f := range c.State.Functions {
		a := ask(t, f.URL)
		t.Cleanup(func() { syscall.Kill(a.Child, syscall.SIGKILL) }) // of the function, not of ours: it is out of reach
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	for _, f := range c.State.Functions {
		eventually(t, f.Name+" is gone", func() bool { return gone(f.PID) })
	}
	// The lock went with it, and the file that it left behind fools nobody.
	again := testOptions(t)
	again.Dir = o.Dir
	r, s := start(t, again)
	if s.PID != os.Getpid() {
		t.Errorf("state of process %d", s.PID)
	}
	r.end(t)
}
