package bench

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Process names processes whose cost is reported together.
type Process struct {
	Name string
	PIDs []int
}

// usage is what a process has used since it began (proc(5)).
type usage struct {
	cpu     time.Duration // user and system
	written int64         // bytes given to write calls: files and sockets alike; -1 when not known
	rss     int64         // bytes in memory now
}

// ticksPerSecond is USER_HZ, which is 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// readUsage reads what a process has used. It fails when there is no such
// process, or no /proc.
func readUsage(pid int) (usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// The command's name, in parentheses, may hold anything; fields are counted after it, from 3.
	text := string(stat)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return usage{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	var ticks [2]int64
	for i, field := range []int{14, 15} {
		if ticks[i], err = strconv.ParseInt(fields[field-3], 10, 64); err != nil {
			return usage{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
	}
	pages, err := strconv.ParseInt(fields[24-3], 10, 64)
	if err != nil {
		return usage{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	u := usage{
		cpu:     time.Duration(ticks[0]+ticks[1]) * time.Second / ticksPerSecond,
		rss:     pages * int64(os.Getpagesize()),
		written: -1,
	}
	// Another user's is not for us: then it is not known.
	if io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid)); err == nil {
		for line := range strings.Lines(string(io)) {
			if v, ok := strings.CutPrefix(line, "wchar: "); ok {
				if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
					u.written = n
				}
			}
		}
	}
	return u, nil
}

// total adds up what processes have used; those that are gone count nothing.
func total(pids []int) usage {
	var sum usage
	for _, pid := range pids {
		u, err := readUsage(pid)
		if err != nil {
			continue
		}
		sum.cpu += u.cpu
		sum.rss += u.rss
		if u.written < 0 || sum.written < 0 {
			sum.written = -1
		} else {
			sum.written += u.written
		}
	}
	return sum
}

// ErrNoListener is returned when no process of this machine, as far as this
// user can see, listens on an address.
var ErrNoListener = errors.New("no process listens there that this user can see")

// Listener returns the process that listens on host:port of this machine. The
// error wraps [ErrNoListener].
func Listener(address string) (int, error) {
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("port of %q: %w", address, err)
	}
	sockets := make(map[string]bool)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		listening(table, uint16(port), sockets)
	}
	if len(sockets) > 0 {
		fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
		if err != nil {
			return 0, err
		}
		for _, fd := range fds {
			if target, err := os.Readlink(fd); err == nil && sockets[target] {
				return strconv.Atoi(strings.Split(fd, "/")[2])
			}
		}
	}
	return 0, fmt.Errorf("%s: %w", address, ErrNoListener)
}

// listening adds the sockets ("socket:[inode]") of a table that listen on the port.
func listening(table string, port uint16, sockets map[string]bool) {
	file, err := os.Open(table)
	if err != nil {
		return
	}
	defer file.Close()
	want := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		const listen = "0A"
		if len(f) > 9 && f[3] == listen && strings.HasSuffix(f[1], want) {
			sockets["socket:["+f[9]+"]"] = true
		}
	}
}
