package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/evento-oss/evento/runtime/httplimit"
)

// Names of the settings as operators write them; every error that names a
// setting uses these.
const (
	settingListen        = "http.listen"
	settingInternal      = "http.internal.listen"
	settingAdvertise     = "http.internal.advertise"
	settingInternalKeys  = "http.internal.secrets"
	settingAuth          = "http.auth"
	settingInstallation  = "installation"
	settingMaxBody       = "http.max.body.bytes"
	settingMaxData       = "http.max.data.bytes"
	settingMaxHeader     = "http.max.header.bytes"
	settingMaxConns      = "http.max.connections"
	settingMaxInflight   = "http.max.inflight.requests"
	settingMaxStreams    = "http.max.streams"
	settingMaxBuffered   = "http.max.buffered.bytes"
	settingBatch         = "http.max.batch.items"
	settingMaxWait       = "http.max.wait"
	settingReadWait      = "http.read.wait"
	settingAppendTimeout = "http.append.timeout"
	settingWaitAggregate = "http.max.waiting.per.aggregate"
)

// HTTPConfig are the settings of the HTTP face. Zero values take the defaults
// that are noted; [HTTPConfig.Check] tells what cannot be.
type HTTPConfig struct {
	Installation string // name of the installation, part of the platform's sources; required

	Listen   string // host:port of the public listener; default "127.0.0.1:8090"
	Internal string // host:port of the listener for other gateways; default "127.0.0.1:8091"
	// Advertise is host:port of the internal listener as other gateways reach
	// it. Default: the address that Internal is bound to, which is refused when
	// that is every address of the machine.
	Advertise string

	// Auth finds out who sends a request. Nil: everybody may do everything,
	// which is allowed on loopback alone.
	Auth Authenticator
	// InternalSecrets sign the calls between gateways: the first signs, each is
	// accepted. At least 32 bytes each. Required when Internal is not loopback.
	InternalSecrets [][]byte
	// Hosts are further names under which a gateway without authentication
	// answers, beside localhost and loopback addresses: a web page that makes
	// its own name point at 127.0.0.1 must not reach it.
	Hosts []string

	MaxBody       int64         // bytes of a request's body; default 1 MiB
	MaxData       int           // bytes of a message's data as Avro; default 960 KiB, as a Kafka record has headers too
	MaxHeader     int           // bytes of a request's headers; default 32 KiB
	MaxConns      int           // open connections of the public listener, beyond it idle ones are closed; default 10,000, or half of the files that the process may open
	MaxInflight   int           // requests at once, waiting ones included; default 20,000
	MaxStreams    int           // live streams of events at once; default 100
	MaxBuffered   int64         // bytes of all bodies that are being read or handled, and of all answers that are being written; default 256 MiB each
	MaxBatch      int           // items of a CloudEvents batch; default 1,000
	MaxWait       time.Duration // longest wait for an outcome or a version, longer ones are cut; default 60s
	ReadWait      time.Duration // wait for min-version when the request names none; default 5s
	AppendTimeout time.Duration // for Kafka's acknowledgement; default 15s
	Grace         time.Duration // for requests that are being answered when the gateway stops; default 20s
	Wait          WaitLimits
}

// withDefaults returns c with its zero values replaced.
func (c HTTPConfig) withDefaults() HTTPConfig {
	def(&c.Listen, "127.0.0.1:8090")
	def(&c.Internal, "127.0.0.1:8091")
	def(&c.MaxBody, 1<<20)
	def(&c.MaxData, 960<<10)
	def(&c.MaxHeader, 32<<10)
	def(&c.MaxConns, httplimit.Conns(10_000))
	def(&c.MaxInflight, 20_000)
	def(&c.MaxStreams, 100)
	def(&c.MaxBuffered, 256<<20)
	def(&c.MaxBatch, 1_000)
	def(&c.MaxWait, 60*time.Second)
	def(&c.ReadWait, 5*time.Second)
	def(&c.AppendTimeout, 15*time.Second)
	def(&c.Grace, 20*time.Second)
	c.Wait = c.Wait.withDefaults()
	return c
}

func def[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

// minInternalSecret is the least length of a secret in bytes: that of the hash.
const minInternalSecret = 32

// Check returns everything that is wrong with the settings, each problem
// naming its setting. It opens nothing.
func (c HTTPConfig) Check() error {
	c = c.withDefaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	switch {
	case c.Installation == "":
		bad("%s is empty: give the installation a name, for example \"bank\"", settingInstallation)
	case strings.Trim(c.Installation, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || len(c.Installation) > 63:
		bad("%s is %q: lower-case letters, digits and '-', at most 63", settingInstallation, c.Installation)
	}
	if loopback, err := loopbackAddress(c.Listen); err != nil {
		bad("%s is %q: %w", settingListen, c.Listen, err)
	} else if !loopback && c.Auth == nil {
		bad("%s is %q, which is not loopback, but nobody is authenticated: set %s, or listen on 127.0.0.1", settingListen, c.Listen, settingAuth)
	}
	if loopback, err := loopbackAddress(c.Internal); err != nil {
		bad("%s is %q: %w", settingInternal, c.Internal, err)
	} else if !loopback && len(c.InternalSecrets) == 0 {
		bad("%s is %q, which is not loopback, but calls between gateways are not signed: set %s, or listen on 127.0.0.1", settingInternal, c.Internal, settingInternalKeys)
	}
	if c.Advertise != "" {
		if host, port, err := net.SplitHostPort(c.Advertise); err != nil || host == "" || port == "" || port == "0" {
			bad("%s is %q, not the host:port under which other gateways reach this one", settingAdvertise, c.Advertise)
		}
	} else if host, _, err := net.SplitHostPort(c.Internal); err == nil && unspecified(host) {
		bad("%s is %q, every address of the machine: set %s to the one that other gateways reach", settingInternal, c.Internal, settingAdvertise)
	}
	for i, s := range c.InternalSecrets {
		if len(s) < minInternalSecret {
			bad("%s: secret %d has %d bytes, fewer than %d", settingInternalKeys, i+1, len(s), minInternalSecret)
		}
	}
	for _, limit := range []struct {
		setting         string
		value, min, max int64
	}{
		{settingMaxBody, c.MaxBody, 1 << 10, 64 << 20},
		{settingMaxData, int64(c.MaxData), 1 << 10, 64 << 20},
		{settingMaxHeader, int64(c.MaxHeader), 4 << 10, 1 << 20},
		{settingMaxConns, int64(c.MaxConns), 1, 1 << 20},
		{settingMaxInflight, int64(c.MaxInflight), 1, 1 << 20},
		{settingMaxStreams, int64(c.MaxStreams), 1, 10_000},
		{settingMaxBuffered, c.MaxBuffered, c.MaxBody, 1 << 40},
		{settingBatch, int64(c.MaxBatch), 1, 100_000},
	} {
		if limit.value < limit.min || limit.value > limit.max {
			bad("%s is %d: from %d to %d", limit.setting, limit.value, limit.min, limit.max)
		}
	}
	for _, limit := range []struct {
		setting    string
		value, max time.Duration
	}{
		{settingMaxWait, c.MaxWait, 10 * time.Minute},
		{settingReadWait, c.ReadWait, c.MaxWait},
		{settingAppendTimeout, c.AppendTimeout, 5 * time.Minute},
	} {
		if limit.value <= 0 || limit.value > limit.max {
			bad("%s is %s: more than 0s, at most %s", limit.setting, limit.value, limit.max)
		}
	}
	return errors.Join(errs...)
}

// anonymousSource is the source of messages from clients that say none and are
// not authenticated.
func (c HTTPConfig) anonymousSource() string {
	return "/evento/" + url.PathEscape(c.Installation) + "/anonymous"
}

// loopbackAddress says whether host:port can be reached from this machine
// alone. A name other than localhost is not resolved: it counts as not.
func loopbackAddress(address string) (bool, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, errors.New("it is not host:port")
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return false, fmt.Errorf("%q is no port", port)
	}
	return loopbackHost(host), nil
}

func loopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

func unspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}
