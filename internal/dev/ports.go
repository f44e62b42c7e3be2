package dev

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// ports are remembered from run to run, so that a tool that was pointed at the
// broker once finds it again.
type ports struct {
	Kafka int `json:"kafka"`
	Redis int `json:"redis"`
}

const portsFile = "ports.json"

// readPorts returns the ports of the last run, zeros when there are none. An
// unreadable file is as good as none: ports are a convenience.
func readPorts(dir string) ports {
	var p ports
	text, err := os.ReadFile(filepath.Join(dir, portsFile))
	if err != nil || json.Unmarshal(text, &p) != nil || p.Kafka < 0 || p.Kafka > 65535 || p.Redis < 0 || p.Redis > 65535 {
		return ports{}
	}
	return p
}

func (p ports) write(dir string) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, portsFile), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("remembering the ports: %w", err)
	}
	return nil
}

// portFree says whether addr can be listened on now, with an error for people when not.
func portFree(addr string) error {
	l, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s is in use by another program", addr)
	case err != nil:
		return err
	}
	return l.Close()
}

// Ports for what is started lie below those that systems give to outgoing
// connections: one of these must not take a port between the look and the start,
// or while a function that died is started again.
const (
	firstPort = 10000
	lastPort  = 11999
)

// freePorts returns n different ports of the loopback interface that nobody
// listens on now, and none of taken: those are for who will listen soon.
func freePorts(n int, taken ...int) ([]int, error) {
	var found []int
	for range 100 * n {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		if slices.Contains(taken, port) {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("looking for a free port: %w", err)
		}
		// Held until all are found, so that none is given twice.
		defer l.Close()
		if found = append(found, port); len(found) == n {
			return found, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports found from %d to %d", n, firstPort, lastPort)
}
