package dev

import (
	"fmt"
	"net"
	"strconv"

	"github.com/alicebob/miniredis/v2"
)

// Redis is an embedded Redis in memory, on the loopback interface. It begins
// empty: what Evento keeps there can always be rebuilt from the events.
type Redis struct {
	server *miniredis.Miniredis
	port   int
}

// StartRedis starts an embedded Redis on the port of 127.0.0.1; 0, or a port
// that is in use, means another free one.
func StartRedis(port int) (*Redis, error) {
	server := miniredis.NewMiniRedis()
	err := server.StartAddr(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil && port != 0 {
		server = miniredis.NewMiniRedis()
		err = server.StartAddr("127.0.0.1:0")
	}
	if err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	p, err := strconv.Atoi(server.Port())
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("embedded redis: its port %q: %w", server.Port(), err)
	}
	return &Redis{server: server, port: p}, nil
}

// Addr returns the server's host:port.
func (r *Redis) Addr() string { return r.server.Addr() }

// Port returns the server's port.
func (r *Redis) Port() int { return r.port }

// Close ends the server; its contents are gone.
func (r *Redis) Close() { r.server.Close() }
