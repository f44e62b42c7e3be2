package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// payload builds a command's payload from words of the command line:
// "name=text" is a string, "name:=json" any JSON value; a dotted name reaches
// into records: "amount.minor:=100". One place cannot be set twice.
func payload(words []string) (map[string]any, error) {
	root := make(map[string]any)
	for _, word := range words {
		name, text, ok := strings.Cut(word, "=")
		if !ok {
			return nil, usagef("%q is no field; write name=text, or name:=json for numbers and the rest", word)
		}
		var value any = text
		if plain, isJSON := strings.CutSuffix(name, ":"); isJSON {
			name = plain
			if !json.Valid([]byte(text)) {
				return nil, usagef("%q: %q is no JSON; write %s=%s for a text", word, text, name, text)
			}
			// Kept as it was written: a long must not go through a float.
			value = json.RawMessage(text)
		}
		if err := set(root, strings.Split(name, "."), value); err != nil {
			return nil, usagef("%q: %w", word, err)
		}
	}
	return root, nil
}

func set(in map[string]any, path []string, value any) error {
	for i, name := range path {
		if name == "" {
			return fmt.Errorf("a part of the name is empty")
		}
		old, exists := in[name]
		if i == len(path)-1 {
			if exists {
				return fmt.Errorf("%q is given twice", strings.Join(path, "."))
			}
			in[name] = value
			return nil
		}
		inner, isObject := old.(map[string]any)
		switch {
		case !exists:
			inner = make(map[string]any)
			in[name] = inner
		case !isObject:
			return fmt.Errorf("%q already has a value", strings.Join(path[:i+1], "."))
		}
		in = inner
	}
	return nil
}
