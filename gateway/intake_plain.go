package gateway

import "time"

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
	err := walkJSONObject(body, func(key string, value []byte) error {
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
			text, ok := jsonText(value)
			if !ok {
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
		var ok bool
		if *into, ok = jsonText(value); !ok {
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
