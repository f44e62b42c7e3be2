package dev

import (
	"os/exec"
	"syscall"
)

// dieWithParent lets the kernel end the command when the thread that started it
// ends: also when this process is killed. The thread must be kept for as long
// as the command runs (runtime.LockOSThread), see golang/go#27505.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
}
