package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What to type next, for the problems that a person at a terminal meets.

const problemPrefix = "urn:evento:problem:"

// nextSteps says what to do about problems whose document alone does not.
var nextSteps = map[string]string{
	"aggregate-not-found": "what can be sent to it: evento schema list",
	"unknown-type":        "the types that are registered: evento schema list; register yours with: evento schema register <folder>",
	"wrong-target":        "the types that are registered: evento schema list; register yours with: evento schema register <folder>",
	"schema-not-found":    "the types that are registered: evento schema list",
	"wrong-kind":          "commands are sent with: evento send <entity> <type>; events are published with --event",
	"version-mismatch":    "see where it stands: evento get <entity>; then send again with another --expect",
	"id-reused":           "the id has been used for another command: leave --id out, or give another one",
	"parked-not-found":    "see what waits: evento parked list",
	"message-not-found":   "see an aggregate's events and their coordinates: evento events <entity> -o json",
	"forbidden":           "ask for a token with this right; the one in use is that of EVENTO_TOKEN or --token",
	"position-gone":       "begin anew with: evento events --follow --from earliest",
	"no-such-route":       "the gateway may be older than this program: its version of the API is at /openapi.json",
}

// missingField finds the field in a message about a value that does not match its schema.
var missingField = regexp.MustCompile(`: ([A-Za-z_][A-Za-z0-9_.]*): the field is missing`)

// explainSend adds to a refusal what to type next about this command.
func explainSend(err error, entity, typ string) error {
	var p *problem
	if !errors.As(err, &p) {
		return err
	}
	switch strings.TrimPrefix(p.Type, problemPrefix) {
	case "schema-mismatch":
		if m := missingField.FindStringSubmatch(p.Detail); m != nil {
			p.next = append(p.next, fmt.Sprintf("give the field as a word: evento send %s %s ... %s=<text>, or %s:=<number or JSON>", entity, typ, m[1], m[1]))
		} else {
			p.next = append(p.next, "a field is written name=text for a string, and name:=value for anything else")
		}
		p.next = append(p.next, "see the fields: evento schema show "+typ)
	case "wrong-kind":
		p.next = append(p.next, "see what it is: evento schema show "+typ)
	}
	return err
}
