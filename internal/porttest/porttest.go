// Package porttest gives tests addresses for programs that listen where they are told to.
package porttest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The ports are below those that the kernel gives to outgoing connections and to who
// asks for any (from 32768 on, on Linux).
const firstPort, lastPort = 12_000, 32_000

var (
	mu    sync.Mutex // guards given
	given = map[int]bool{}
)

// Free returns an address of the loopback interface that nobody listens on. It is given
// once in this process, and stays free while its program ends and is started again.
func Free(t testing.TB) string {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if given[port] {
			continue
		}
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			given[port] = true
			return address
		}
	}
	t.Fatal("no free port found")
	return ""
}
