package gateway

import (
	"bytes"
	"encoding/json"
	"testing"
)

// FuzzJSONParts holds the taking apart by hand against encoding/json.
func FuzzJSONParts(f *testing.F) {
	for _, seed := range []string{
		withdraw, `{}`, ` { "a" : [ 1 , "]}\"" ] , "b\u0062" : { } , "c":-1e3 }  `, `[]`, ` [ {"a":[]} ,null, "x\\" ] `, `[1`, `{"a":1,"a":2}`, "\"\xff\"",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var members map[string]json.RawMessage
		isObject := json.Unmarshal(body, &members) == nil && members != nil
		values := map[string][]byte{}
		err := walkJSONObject(body, func(key string, value []byte) error {
			values[key] = value
			return nil
		})
		checkProblem(t, err)
		if err == nil {
			if !isObject || len(values) != len(members) {
				t.Fatalf("taken apart into %d members, encoding/json finds %d", len(values), len(members))
			}
			for key, value := range values {
				if !bytes.Equal(value, members[key]) {
					t.Errorf("the value of %q is %q, want %q", key, value, members[key])
				}
			}
		}
		var elements []json.RawMessage
		isArray := json.Unmarshal(body, &elements) == nil && elements != nil
		items, err := splitJSONArray(body, 1<<20)
		checkProblem(t, err)
		if err != nil {
			return
		}
		if !isArray || len(items) != len(elements) {
			t.Fatalf("taken apart into %d elements, encoding/json finds %d", len(items), len(elements))
		}
		for i, item := range items {
			if !bytes.Equal(item, elements[i]) {
				t.Errorf("element %d is %q, want %q", i, item, elements[i])
			}
		}
	})
}
