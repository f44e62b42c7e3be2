package avro

import (
	"errors"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/evento-oss/evento/runtime"
)

func TestPlatformRecords(t *testing.T) {
	c := NewCatalogue()
	long := string(make([]byte, 300))
	for _, want := range []interface {
		Encode() (runtime.DataSchema, []byte)
	}{
		CommandParked{Reason: "it panicked", Attempts: 8, Function: "bank/checking"},
		CommandParked{Reason: long, Attempts: math.MaxInt32},
		CommandRejected{Code: "version-mismatch", Reason: "expected 3, found 4"},
		PublishRejected{Code: "unknown-type", Reason: "ä"},
		RetryNow{Offset: math.MaxInt64},
		DropCommand{Offset: 7, Reason: "an operator said so"},
	} {
		d, data := want.Encode()
		if err := c.Validate(d, data); err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		var got any
		var err error
		switch want.(type) {
		case CommandParked:
			got, err = c.DecodeCommandParked(d, data)
		case CommandRejected:
			got, err = c.DecodeCommandRejected(d, data)
		case PublishRejected:
			got, err = c.DecodePublishRejected(d, data)
		case RetryNow:
			got, err = c.DecodeRetryNow(d, data)
		case DropCommand:
			got, err = c.DecodeDropCommand(d, data)
		}
		if err != nil || got != want {
			t.Errorf("decoded %+v, %v, want %+v", got, err, want)
		}
	}
}

func TestDispatchedRecords(t *testing.T) {
	c := NewCatalogue()
	for _, want := range []Dispatched{
		{Dispatcher: "bank/transfers", Event: "e-1", At: "t/0/7", Status: DispatchParked, Reason: "it panicked", Attempts: 8},
		{
			Dispatcher: "bank/transfers", Epoch: 3, Event: "e-1", At: "t/0/7", Status: DispatchDecided, Function: "bank/transfers img 00",
			Commands: []DispatchedCommand{
				{Type: "A.B", Target: "a:1", Schema: "urn:x", Data: []byte{0, 255, 7}, Time: time.UnixMilli(1234).UTC()},
				{Type: "A.C", Target: "a:2", Schema: "urn:y", Data: []byte{}, Time: time.UnixMilli(0).UTC()},
			},
		},
	} {
		d, data := want.Encode()
		if err := c.Validate(d, data); err != nil {
			t.Fatalf("%+v: %v", want, err)
		}
		if got, err := c.DecodeDispatched(d, data); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("decoded %+v, %v, want %+v", got, err, want)
		}
	}
	d, data := Dispatched{Status: "guessed"}.Encode()
	if _, err := c.DecodeDispatched(d, data); !errors.Is(err, ErrData) {
		t.Errorf("an unknown status gave %v", err)
	}
}

func TestPlatformRecordsAreChecked(t *testing.T) {
	c := NewCatalogue()
	d, data := CommandRejected{Code: "a", Reason: "b"}.Encode()
	if _, err := c.DecodeCommandRejected(d, data[:2]); !errors.Is(err, ErrData) {
		t.Errorf("a truncated record gave %v", err)
	}
	if _, err := c.DecodePublishRejected(d, data); !errors.Is(err, ErrIncompatible) {
		t.Errorf("another type gave %v", err)
	}
	// A reason may be anything that a function has answered.
	_, data = CommandRejected{Code: "a", Reason: "\xff"}.Encode()
	if err := c.Validate(d, data); err != nil {
		t.Error(err)
	}
}

func TestPlatformTypesCanBeRegistered(t *testing.T) {
	c := NewCatalogue()
	for _, r := range Platform() {
		add(t, c, r)
		typ, ok := c.Type(r.Name)
		if !ok || !(&runtime.Message{Type: typ.Name}).Platform() {
			t.Errorf("%s is not one of the platform's", r.Name)
		}
	}
	if names := c.Aggregates(); len(names) != 0 {
		t.Errorf("the platform's types are the aggregates %v", names)
	}
}
