package proxy

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// request is what a request's header says, and its body if anybody asks.
type request struct {
	key         int16
	version     int16
	correlation int32
	client      string // client.id
	body        []byte // behind the header
}

// frame is a request or an answer on its way. All bytes of it are there: four of
// length, and so many.
type frame struct {
	bytes   []byte
	request *request  // what it is, or answers; nil for the end of the connection
	due     time.Time // not to be passed on before; zero for at once

	judged int64    // rules up to this number have been asked about it
	rules  []*Fault // that have taken it, in their order
}

// maxFrame is more than any test sends; a length beyond it is no length.
const maxFrame = 256 << 20

func readFrame(c net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n < 4 || n > maxFrame {
		return nil, fmt.Errorf("a length of %d bytes is none of Kafka's protocol", n)
	}
	b := make([]byte, 4+n)
	copy(b, size[:])
	_, err := io.ReadFull(c, b[4:])
	return b, err
}

// parseRequest reads a request's header: length, api key, version, correlation
// id, client id, and in flexible versions (KIP-482) tagged fields.
func parseRequest(b []byte) (*request, error) {
	if len(b) < 14 {
		return nil, fmt.Errorf("a request of %d bytes is too short for its header", len(b))
	}
	r := &request{
		key:         int16(binary.BigEndian.Uint16(b[4:])),
		version:     int16(binary.BigEndian.Uint16(b[6:])),
		correlation: int32(binary.BigEndian.Uint32(b[8:])),
	}
	rest := b[14:]
	if n := int(int16(binary.BigEndian.Uint16(b[12:]))); n > len(rest) {
		return nil, fmt.Errorf("a client id of %d bytes does not fit into its request of %d", n, len(b))
	} else if n > 0 {
		r.client, rest = string(rest[:n]), rest[n:]
	}
	if k := kmsg.RequestForKey(r.key); k != nil {
		k.SetVersion(r.version)
		if k.IsFlexible() {
			var err error
			if rest, err = skipTags(rest); err != nil {
				return nil, fmt.Errorf("header of %s: %w", keyName(r.key), err)
			}
		}
	}
	r.body = rest
	return r, nil
}

// keyName names a kind of request.
func keyName(key int16) string { return kmsg.NameForKey(key) }

var errTags = errors.New("tagged fields do not end")

// skipTags skips tagged fields: how many, then for each its number, its length
// and so many bytes.
func skipTags(b []byte) ([]byte, error) {
	uvarint := func() int {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > maxFrame {
			b = nil
			return -1
		}
		b = b[n:]
		return int(v)
	}
	n := uvarint()
	if n < 0 {
		return nil, errTags
	}
	for range n {
		if uvarint() < 0 {
			return nil, errTags
		}
		if size := uvarint(); size < 0 || size > len(b) {
			return nil, errTags
		} else {
			b = b[size:]
		}
	}
	return b, nil
}

// decode reads a request's body; nil when it is of a kind or version that kmsg
// does not know, or not well-formed.
func (r *request) decode() kmsg.Request {
	k := kmsg.RequestForKey(r.key)
	if k == nil || r.version > k.MaxVersion() {
		return nil
	}
	k.SetVersion(r.version)
	if k.ReadFrom(r.body) != nil {
		return nil
	}
	return k
}

// silent says whether the broker does not answer it: what is produced without
// acknowledgement.
func (r *request) silent() bool {
	if kmsg.Key(r.key) != kmsg.Produce {
		return false
	}
	p, ok := r.decode().(*kmsg.ProduceRequest)
	return ok && p.Acks == 0
}
