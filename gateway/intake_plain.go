package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// parsePlain reads the plain JSON of a command or event:
//
//	{"entity": "checking:6789-21", "command_type": "WithdrawCash", "payload": {...}}
//
// and optionally id, source and time (RFC 3339). The payload is kept as text;
// the schema reads it later. Errors are problems.
func parsePlain(body []byte, wants intakeWants) (*draft, error) {
	d := &draft{form: formPlain, wants: wants}
	typeKey, otherKey, otherPath := d.name("type"), "event_type", "/v1/events"
	if wants == wantEvent {
		otherKey, otherPath = "command_type", "/v1/commands"
	}
	given := map[string]bool{}
	err := walkJSONObject(body, func(key string, value json.RawMessage) error {
		given[key] = true
		var into *string
		switch key {
		case "payload":
			d.data = value
			return nil
		case "entity":
			into = &d.entity
		case typeKey:
			into = &d.typ
		case "id":
			into = &d.id
		case "source":
			into = &d.source
		case "time":
			var text string
			if err := json.Unmarshal(value, &text); err != nil || value[0] != '"' {
				return fail(problemAttribute, "%q is not a string", key).field(key)
			}
			t, err := time.Parse(time.RFC3339, text)
			if err != nil || t.IsZero() { // zero stands for none
				return fail(problemAttribute, "%q is %q, which is no RFC 3339 time such as 2030-01-31T10:20:30.123Z", key, text).field(key)
			}
			d.time = t
			return nil
		case otherKey:
			return fail(problemAttribute, "%q is not taken here; POST it to %s", key, otherPath).field(key)
		default:
			return fail(problemAttribute, "unknown key %q; the keys are entity, %s, payload, id, source and time", key, typeKey).field(key)
		}
		if value[0] != '"' {
			return fail(problemAttribute, "%q is not a string", key).field(key)
		}
		if err := json.Unmarshal(value, into); err != nil {
			return fail(problemAttribute, "%q is not a string", key).field(key)
		}
		if *into == "" {
			return fail(problemAttribute, "%q is empty", key).field(key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"entity", typeKey, "payload"} {
		if !given[key] {
			return nil, fail(problemAttribute, "%q is missing", key).field(key)
		}
	}
	return d, nil
}

// maxJSONKeys bounds the keys of the outer object: an envelope has a few.
const maxJSONKeys = 64

// walkJSONObject calls visit for each member of the one object that body is,
// in order. Duplicate keys, bytes that are not UTF-8 and anything after the
// object are refused: encoding/json would take them silently. What visit
// returns ends the walk. Errors are problems.
func walkJSONObject(body []byte, visit func(key string, value json.RawMessage) error) error {
	if !utf8.Valid(body) {
		return fail(problemMalformed, "the body is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	open, err := dec.Token()
	if err != nil {
		return malformedJSON(err)
	}
	if open != json.Delim('{') {
		return fail(problemMalformed, "the body is not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return malformedJSON(err)
		}
		key, ok := token.(string)
		if !ok {
			return fail(problemMalformed, "the body is not JSON: a key is not a string")
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return malformedJSON(err)
		}
		switch {
		case seen[key]:
			return fail(problemDuplicate, "the key %q is given more than once", key).field(key)
		case len(seen) >= maxJSONKeys:
			return fail(problemMalformed, "the object has more than %d keys", maxJSONKeys)
		}
		seen[key] = true
		if err := visit(key, value); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformedJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fail(problemMalformed, "something follows the JSON object")
	}
	return nil
}

// splitJSONArray returns the elements of the one array that body is.
func splitJSONArray(body []byte, limit int) ([]json.RawMessage, error) {
	if !utf8.Valid(body) {
		return nil, fail(problemMalformed, "the body is not valid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	open, err := dec.Token()
	if err != nil {
		return nil, malformedJSON(err)
	}
	if open != json.Delim('[') {
		return nil, fail(problemMalformed, "the body of a batch is not a JSON array")
	}
	var items []json.RawMessage
	for dec.More() {
		if len(items) == limit {
			return nil, fail(problemTooLarge, "the batch has more than %d items, the limit that is set by %s", limit, settingBatch).limit(settingBatch, int64(limit))
		}
		var item json.RawMessage
		if err := dec.Decode(&item); err != nil {
			return nil, malformedJSON(err)
		}
		items = append(items, item)
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformedJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fail(problemMalformed, "something follows the JSON array")
	}
	return items, nil
}

func malformedJSON(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fail(problemMalformed, "the body is not JSON: it ends too early")
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fail(problemMalformed, "the body is not JSON: %s", fmt.Sprintf("%s (at byte %d)", syntax, syntax.Offset))
	}
	return fail(problemMalformed, "the body is not JSON: %s", err)
}
