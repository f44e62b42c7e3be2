package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets everything in a message to something that is not its zero value.
func fill(v reflect.Value, n *int64) {
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(*n % 100)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n % 100))
	case reflect.Float64:
		v.SetFloat(float64(*n))
	case reflect.String:
		v.SetString(fmt.Sprint("text-", *n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
			tags.Set(uint32(1000+*n), []byte("unknown")) // as a later broker may send
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Name != "Version" {
				fill(v.Field(i), n)
			}
		}
	}
}

// hosts collects what an answer says of brokers, by what kmsg calls it.
func hosts(v reflect.Value) (found []string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			found = hosts(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			found = append(found, hosts(v.Index(i))...)
		}
	case reflect.Struct:
		if host, port := v.FieldByName("Host"), v.FieldByName("Port"); host.IsValid() && port.IsValid() && host.String() != "" {
			found = append(found, fmt.Sprintf("%v:%v", host, port))
		}
		for i := range v.NumField() {
			found = append(found, hosts(v.Field(i))...)
		}
	}
	return found
}

// answerOf makes the bytes of a full answer in a version.
func answerOf(key kmsg.Key, version int16) (b []byte, flexible bool) {
	answer := kmsg.ResponseForKey(int16(key))
	n := int64(0)
	fill(reflect.ValueOf(answer).Elem(), &n)
	answer.SetVersion(version)
	b = []byte{0, 0, 0, 0, 0, 0, 0, 7}
	if flexible = answer.IsFlexible() && key != kmsg.ApiVersions; flexible {
		b = append(b, 0)
	}
	b = answer.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b, flexible
}

// TestAddressesAreReplacedInEachVersion looks at answers with all their fields set.
func TestAddressesAreReplacedInEachVersion(t *testing.T) {
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		answer := kmsg.ResponseForKey(key)
		if answer == nil || !speaksOfBrokers(kmsg.Key(key)) {
			continue
		}
		for version := int16(0); version <= answer.MaxVersion(); version++ {
			name := fmt.Sprintf("%s v%d", keyName(key), version)
			b, flexible := answerOf(kmsg.Key(key), version)
			read := func(b []byte) kmsg.Response {
				t.Helper()
				if n := int(binary.BigEndian.Uint32(b)); n != len(b)-4 || binary.BigEndian.Uint32(b[4:]) != 7 {
					t.Fatalf("%s: %d bytes say %d, header %x", name, len(b), n, b[:8])
				}
				r := kmsg.ResponseForKey(key)
				r.SetVersion(version)
				body := b[8:]
				if flexible {
					body = body[1:]
				}
				if err := r.ReadFrom(body); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				return r
			}
			r := &request{key: key, version: version}
			same, err := rewrite(r, b, func(h string, p int32) (string, int32) { return h, p })
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if key == int16(kmsg.ApiVersions) {
				continue
			}
			if !bytes.Equal(same, b) {
				t.Errorf("%s: written again without a change, it is another:\n%x\n%x", name, b, same)
			}
			before := hosts(reflect.ValueOf(read(b)))
			if len(before) == 0 && version == answer.MaxVersion() {
				t.Errorf("%s names no broker", name)
			}
			changed, err := rewrite(r, b, func(h string, p int32) (string, int32) { return "ours-" + h, 1000 + p })
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			var want []string
			for _, at := range before {
				host, text, _ := strings.Cut(at, ":")
				port, _ := strconv.Atoi(text)
				want = append(want, fmt.Sprintf("ours-%s:%d", host, port+1000))
			}
			if after := hosts(reflect.ValueOf(read(changed))); !slices.Equal(after, want) {
				t.Errorf("%s: %v became %v", name, before, after)
			}
		}
	}
}

// TestOnlyTheseAnswersSpeakOfBrokers goes through all answers that a client gets.
func TestOnlyTheseAnswersSpeakOfBrokers(t *testing.T) {
	// Between brokers and controllers, or about them or about clients, for people.
	others := []kmsg.Key{kmsg.StreamsGroupHeartbeat, kmsg.StreamsGroupDescribe, kmsg.Vote, kmsg.BeginQuorumEpoch, kmsg.EndQuorumEpoch, kmsg.FetchSnapshot, kmsg.DescribeQuorum, kmsg.UpdateRaftVoter}
	for key := int16(0); key <= kmsg.MaxKey; key++ {
		answer := kmsg.ResponseForKey(key)
		if answer == nil || kmsg.Key(key) == kmsg.ApiVersions {
			continue
		}
		n := int64(0)
		fill(reflect.ValueOf(answer).Elem(), &n)
		if found := hosts(reflect.ValueOf(answer)); (len(found) > 0) != (speaksOfBrokers(kmsg.Key(key)) || slices.Contains(others, kmsg.Key(key))) {
			t.Errorf("%s: %v", keyName(key), found)
		}
	}
}

func TestVersionsThatNobodyKnowsAreHidden(t *testing.T) {
	answer := kmsg.NewPtrApiVersionsResponse()
	for _, k := range []kmsg.ApiVersionsResponseApiKey{{ApiKey: int16(kmsg.Fetch), MinVersion: 4, MaxVersion: 99}, {ApiKey: int16(kmsg.Produce), MaxVersion: 3}, {ApiKey: 9999, MaxVersion: 7}} {
		answer.ApiKeys = append(answer.ApiKeys, k)
	}
	for _, c := range []struct{ asked, answered, code int16 }{{0, 0, 0}, {3, 3, 0}, {4, 0, 35}} {
		answer.ErrorCode = c.code
		answer.SetVersion(c.answered)
		b := answer.AppendTo([]byte{0, 0, 0, 0, 0, 0, 0, 7})
		out, err := rewrite(&request{key: int16(kmsg.ApiVersions), version: c.asked}, b, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := kmsg.NewPtrApiVersionsResponse()
		got.SetVersion(c.answered)
		if err := got.ReadFrom(out[8:]); err != nil {
			t.Fatal(err)
		}
		if got.ErrorCode != c.code || len(got.ApiKeys) != 3 || got.ApiKeys[0].MaxVersion != kmsg.NewPtrFetchRequest().MaxVersion() || got.ApiKeys[0].MinVersion != 4 ||
			got.ApiKeys[1].MaxVersion != 3 || got.ApiKeys[2].MaxVersion != 7 {
			t.Errorf("asked in version %d: %+v", c.asked, got)
		}
	}
}

func TestRequestHeaders(t *testing.T) {
	id := "who"
	for _, format := range []*kmsg.RequestFormatter{kmsg.NewRequestFormatter(), kmsg.NewRequestFormatter(kmsg.FormatterClientID(id))} {
		for _, version := range []int16{0, 5} { // not flexible, and flexible
			q := kmsg.NewPtrEndTxnRequest()
			q.TransactionalID, q.ProducerID, q.Commit = "txn", 77, true
			q.SetVersion(version)
			b := format.AppendRequest(nil, q, 12)
			r, err := parseRequest(b)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := r.decode().(*kmsg.EndTxnRequest)
			if !ok || r.key != 26 || r.version != version || r.correlation != 12 || r.client != "" && r.client != id || got.TransactionalID != "txn" || got.ProducerID != 77 || !got.Commit {
				t.Errorf("version %d: %+v, %+v", version, r, got)
			}
			for n := range b {
				parseRequest(b[:n]) // must not panic
			}
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	q := kmsg.NewPtrEndTxnRequest()
	q.SetVersion(5)
	f.Add(kmsg.NewRequestFormatter(kmsg.FormatterClientID("who")).AppendRequest(nil, q, 12))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil {
			r.decode()
		}
	})
}
