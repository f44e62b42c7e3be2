package dev

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lock makes sure that one instance alone works on the data directory. The
// kernel gives the lock back when the process ends, however it ends.
func lock(dir string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		who := "another instance"
		if s, err := ReadState(dir); err == nil {
			who = fmt.Sprintf("another instance (process %d, gateway %s)", s.PID, s.Gateway)
		}
		return nil, fmt.Errorf("%s already runs on the data directory %q; use that one, stop it, or give another --dir and --port", who, dir)
	}
	return func() { file.Close() }, nil
}
