//go:build unix

package httplimit

import "syscall"

// Conns returns how many connections a listener takes at most by default: so many, and
// no more than half of the files that the process may open. A process that has
// none left reaches neither its database nor its other servers.
func Conns(most int) int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return most
	}
	return int(max(1, min(uint64(most), uint64(limit.Cur)/2)))
}
