package dev

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// DefaultKafkaPort is tried first for the embedded broker, because tools expect Kafka there.
const DefaultKafkaPort = 9092

// BrokerOptions say where a [Broker] keeps its data and where it listens.
type BrokerOptions struct {
	Dir     string // created when missing
	Port    int    // of 127.0.0.1; 0, or one that is in use, means another free one
	LogFile string // warnings and errors of the broker; empty: nowhere
}

// Broker is an embedded broker that speaks Kafka's protocol on the loopback
// interface: topics, transactions and consumer groups, kept on disk.
type Broker struct {
	cluster *kfake.Cluster
	log     io.Closer
	addr    string
	port    int
}

// StartBroker starts a broker on the data in o.Dir. Its cluster id is made at
// the first start and stays. It fails when the data cannot be read.
func StartBroker(o BrokerOptions) (*Broker, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	opts := []kfake.Opt{
		// Taken at the first start only; later the id on disk counts. It is
		// random because snapshots in a Redis that outlives the data directory
		// are told apart by it.
		kfake.ClusterID("evento-dev-" + rand.Text()[:12]),
		kfake.DataDir(o.Dir),
		kfake.BrokerConfigs(map[string]string{
			// A project that is put aside for a holiday keeps its position.
			"offsets.retention.minutes": strconv.Itoa(10 * 365 * 24 * 60),
		}),
	}
	b := &Broker{log: io.NopCloser(nil)}
	if o.LogFile != "" {
		file, err := openLog(o.LogFile)
		if err != nil {
			return nil, err
		}
		b.log = file
		opts = append(opts, kfake.WithLogger(kfake.BasicLogger(file, kfake.LogLevelWarn)))
	}
	port := o.Port
	if port == 0 {
		port = DefaultKafkaPort
	}
	cluster, err := kfake.NewCluster(append(opts, kfake.Ports(port))...)
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EACCES) {
		cluster, err = kfake.NewCluster(append(opts, kfake.Ports(0))...)
	}
	if err != nil {
		b.log.Close()
		return nil, fmt.Errorf("embedded broker with data in %q: %w; to begin anew, move that folder away", o.Dir, err)
	}
	b.cluster = cluster
	b.addr = cluster.ListenAddrs()[0]
	_, p, err := net.SplitHostPort(b.addr)
	if err == nil {
		b.port, err = strconv.Atoi(p)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("embedded broker: its address %q: %w", b.addr, err)
	}
	return b, nil
}

// Addr returns the broker's host:port.
func (b *Broker) Addr() string { return b.addr }

// Port returns the broker's port.
func (b *Broker) Port() int { return b.port }

// Close writes what must be on disk and ends the broker. A second call does nothing.
func (b *Broker) Close() {
	b.cluster.Close()
	b.log.Close()
}
