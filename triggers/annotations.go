package triggers

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// The annotations of a Trigger. A function in a stack.yml has the same, and
// those of [Stack].
const (
	AnnotationRole       = "evento.io/role"        // handler, aggregator, "handler,aggregator", dispatcher or sink; default sink
	AnnotationAggregate  = "evento.io/aggregate"   // handler and aggregator: the aggregate's name, an Avro namespace
	AnnotationOnFailure  = "evento.io/on-failure"  // handler and aggregator: hold (default) or park
	AnnotationMaxBackoff = "evento.io/max-backoff" // ISO-8601 duration: the longest delay between two calls
	AnnotationContent    = "evento.io/content"     // sink: avro (default) or json
	AnnotationStart      = "evento.io/start"       // dispatcher and sink: latest (default) or earliest
)

// annotationPrefix is ours: an unknown annotation below it is a mistake.
const annotationPrefix = "evento.io/"

// triggerAnnotations says which roles each annotation is for.
func triggerAnnotations() map[string][]Role {
	return map[string][]Role{
		AnnotationRole:       {Handler, Aggregator, Dispatcher, Sink},
		AnnotationAggregate:  {Handler, Aggregator},
		AnnotationOnFailure:  {Handler, Aggregator},
		AnnotationMaxBackoff: {Handler, Aggregator, Dispatcher, Sink},
		AnnotationContent:    {Sink},
		AnnotationStart:      {Dispatcher, Sink},
	}
}

// aggregateName is an Avro namespace (Avro 1.11, "Names").
var aggregateName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

// readAnnotations fills in what annotations say of t, but for max-backoff,
// which [readDelivery] reads. field is the path before the name.
func readAnnotations(t *Target, annotations map[string]string, field string, p *problems) {
	at := func(name string) string { return field + "[" + name + "]" }
	t.Roles = readRoles(annotations, at(AnnotationRole), p)
	known := triggerAnnotations()
	for _, name := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(name, annotationPrefix) {
			continue
		}
		roles, ok := known[name]
		switch {
		case !ok && slices.Contains(stackAnnotations(), name):
			p.add(at(name), "it stands only in a stack.yml", "a Trigger says it in spec.filters or spec.delivery")
		case !ok:
			p.add(at(name), "unknown annotation", "known are "+strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		case len(t.Roles) > 0 && !slices.ContainsFunc(t.Roles, func(r Role) bool { return slices.Contains(roles, r) }):
			p.add(at(name), fmt.Sprintf("it means nothing for the role %s", joinRoles(t.Roles)), "remove it; it is for "+joinRoles(roles))
		}
	}

	value := annotations[AnnotationAggregate]
	switch {
	case t.Has(Handler) || t.Has(Aggregator):
		if value == "" {
			p.add(at(AnnotationAggregate), "missing", fmt.Sprintf("a %s belongs to one aggregate; name it, for example CheckingAccount", joinRoles(t.Roles)))
		} else if !aggregateName.MatchString(value) {
			p.add(at(AnnotationAggregate), fmt.Sprintf("%q is not the name of an aggregate", value), "write the namespace of its Avro schema, for example CheckingAccount")
		} else if value == "evento" {
			p.add(at(AnnotationAggregate), `"evento" is the platform's own namespace`, "name an aggregate of yours")
		}
		t.Aggregate = value
	}

	t.Delivery.Park = oneOf(annotations, AnnotationOnFailure, at, p, "hold", "park") == "park"
	t.Content, t.Start = "", ""
	if t.Has(Sink) {
		t.Content = Content(oneOf(annotations, AnnotationContent, at, p, string(ContentAvro), string(ContentJSON)))
	}
	if t.Has(Sink) || t.Has(Dispatcher) {
		t.Start = Start(oneOf(annotations, AnnotationStart, at, p, string(StartLatest), string(StartEarliest)))
	}
}

// readRoles reads evento.io/role; it returns nil after a problem.
func readRoles(annotations map[string]string, field string, p *problems) []Role {
	value, ok := annotations[AnnotationRole]
	if !ok {
		return []Role{Sink}
	}
	const fix = `write handler, aggregator, "handler,aggregator", dispatcher or sink`
	var roles []Role
	for part := range strings.SplitSeq(value, ",") {
		role := Role(strings.TrimSpace(part))
		switch {
		case !slices.Contains([]Role{Handler, Aggregator, Dispatcher, Sink}, role):
			p.add(field, fmt.Sprintf("%q is not a role", string(role)), fix)
			return nil
		case slices.Contains(roles, role):
			p.add(field, fmt.Sprintf("the role %s stands twice in %q", role, value), fix)
			return nil
		}
		roles = append(roles, role)
	}
	if len(roles) > 1 && (slices.Contains(roles, Dispatcher) || slices.Contains(roles, Sink)) {
		p.add(field, fmt.Sprintf("%q: only handler and aggregator can be one function", value), fix+"; use a Trigger for each of the others")
		return nil
	}
	slices.SortFunc(roles, func(a, b Role) int { return strings.Compare(string(b), string(a)) }) // handler, aggregator
	return roles
}

// oneOf reads an annotation with a closed list of values, the first being the default.
func oneOf(annotations map[string]string, name string, at func(string) string, p *problems, values ...string) string {
	value, ok := annotations[name]
	if !ok {
		return values[0]
	}
	if !slices.Contains(values, value) {
		p.add(at(name), fmt.Sprintf("%q is not a value it can have", value), "write "+strings.Join(values, " or "))
		return values[0]
	}
	return value
}

func joinRoles(roles []Role) string {
	parts := make([]string, len(roles))
	for i, r := range roles {
		parts[i] = string(r)
	}
	return strings.Join(parts, ",")
}
