//go:build !linux

package proof

import "syscall"

// dieWithParent does what it can: only Linux ends a process whose parent was killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
