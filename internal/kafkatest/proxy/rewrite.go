package proxy

import (
	"encoding/binary"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// rewrite gives an answer as the client is to see it: with our addresses where
// brokers' are, and without versions of requests that we could not read. Answers
// that say neither are given back as they are. ours gives our address for a
// broker's.
func rewrite(r *request, b []byte, ours func(host string, port int32) (string, int32)) ([]byte, error) {
	if !speaksOfBrokers(kmsg.Key(r.key)) {
		return b, nil
	}
	answer := kmsg.ResponseForKey(r.key)
	if r.version > answer.MaxVersion() {
		return nil, fmt.Errorf("answer to %s in version %d, of which %d is the last known", keyName(r.key), r.version, answer.MaxVersion())
	}
	answer.SetVersion(r.version)
	body := b[8:]
	if kmsg.Key(r.key) == kmsg.ApiVersions {
		// Its header has no tagged fields in any version, and a broker that does
		// not know the version (error 35) answers in the first (KIP-511).
		if len(body) >= 2 && binary.BigEndian.Uint16(body) == 35 {
			answer.SetVersion(0)
		}
	} else if answer.IsFlexible() {
		var err error
		if body, err = skipTags(body); err != nil {
			return nil, fmt.Errorf("header of the answer to %s: %w", keyName(r.key), err)
		}
	}
	head := len(b) - len(body)
	if err := answer.ReadFrom(body); err != nil {
		return nil, fmt.Errorf("answer to %s in version %d: %w", keyName(r.key), r.version, err)
	}
	if !change(answer, ours) {
		return b, nil
	}
	out := answer.AppendTo(append([]byte(nil), b[:head]...))
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	return out, nil
}

// speaksOfBrokers says whether an answer of this kind may have to be changed.
func speaksOfBrokers(key kmsg.Key) bool {
	switch key {
	case kmsg.ApiVersions, kmsg.Metadata, kmsg.FindCoordinator, kmsg.DescribeCluster,
		// Since KIP-951 these name the new leader's address beside an error.
		kmsg.Produce, kmsg.Fetch, kmsg.ShareFetch, kmsg.ShareAcknowledge:
		return true
	}
	return false
}

// change puts our addresses into an answer, and says whether there was anything
// to change. What is produced and fetched is most of the traffic, and next to
// none of it names an address.
func change(answer kmsg.Response, ours func(host string, port int32) (string, int32)) (changed bool) {
	at := func(host *string, port *int32) {
		if *host != "" { // there is none beside an error
			*host, *port = ours(*host, *port)
			changed = true
		}
	}
	switch a := answer.(type) {
	case *kmsg.ApiVersionsResponse:
		for i := range a.ApiKeys {
			k := &a.ApiKeys[i]
			if known := kmsg.RequestForKey(k.ApiKey); known != nil && k.MaxVersion > known.MaxVersion() {
				k.MaxVersion = known.MaxVersion()
				changed = true
			}
		}
	case *kmsg.MetadataResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.FindCoordinatorResponse:
		at(&a.Host, &a.Port)
		for i := range a.Coordinators {
			at(&a.Coordinators[i].Host, &a.Coordinators[i].Port)
		}
	case *kmsg.DescribeClusterResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.ProduceResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.FetchResponse:
		for i := range a.Brokers {
			at(&a.Brokers[i].Host, &a.Brokers[i].Port)
		}
	case *kmsg.ShareFetchResponse:
		for i := range a.NodeEndpoints {
			at(&a.NodeEndpoints[i].Host, &a.NodeEndpoints[i].Port)
		}
	case *kmsg.ShareAcknowledgeResponse:
		for i := range a.NodeEndpoints {
			at(&a.NodeEndpoints[i].Host, &a.NodeEndpoints[i].Port)
		}
	}
	return changed
}
