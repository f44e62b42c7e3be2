package dev

import (
	"os/exec"
	"syscall"
)

// ownGroup makes the command the leader of a process group of its own. A Ctrl-C
// at the terminal then reaches it through us alone, in our order, and what it
// started can be ended with it.
func ownGroup(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

// killGroup ends all processes of a group at once. No process in it is no error.
func killGroup(leader int) error { return signalGroup(leader, syscall.SIGKILL) }

// endGroup asks all processes of a group to end.
func endGroup(leader int) error { return signalGroup(leader, syscall.SIGTERM) }

func signalGroup(leader int, s syscall.Signal) error {
	if err := syscall.Kill(-leader, s); err != nil && err != syscall.ESRCH {
		return err
	}
	return nil
}
