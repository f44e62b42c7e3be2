package triggers

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"go.uber.org/zap"
	"k8s.io/apimachinery/pkg/util/validation"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/apis/feature"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
	"knative.dev/pkg/logging"

	"github.com/evento-oss/evento/runtime"
)

// Trigger is a Knative Trigger that has been checked, resolved and compiled.
type Trigger struct {
	Target Target // Combined is not known yet

	at    Problem // where it stands, for problems that show only beside other Triggers
	match *matcher
	spec  string // its specification and annotations, to tell whether a reload changed anything
}

// Matches says whether the Trigger's filter lets m pass. It may be called from many goroutines.
func (t *Trigger) Matches(m *runtime.Message) bool { return t.match.matches(&lazyView{message: m}) }

// Origin says where a Trigger object was read.
type Origin struct {
	File     string
	Document int // from 1; 0 for none
	Line     int // 0 for unknown
}

func (o Origin) String() string {
	if o.Document > 0 {
		return fmt.Sprintf("%s, document %d", o.File, o.Document)
	}
	return o.File
}

// New checks a Knative Trigger, fills in defaults and compiles it. broker is
// the delivery of its Broker, used where the Trigger has none; nil for
// Knative's default. It changes object as Knative's webhook would. The error
// is a [*LoadError] with all problems.
func New(object *eventingv1.Trigger, broker *eventingduckv1.DeliverySpec, origin Origin, resolve Resolver) (*Trigger, error) {
	if object.Namespace == "" {
		object.Namespace = "default" // as kubectl does
	}
	name := object.Namespace + "/" + object.Name
	p := &problems{at: Problem{File: origin.File, Document: origin.Document, Line: origin.Line, Object: "Trigger " + name}}
	if object.Name == "" {
		p.at.Object = "Trigger"
	}
	t := &Trigger{at: p.at, Target: Target{Name: name, Broker: object.Spec.Broker, From: origin.String()}}
	if object.Spec.BrokerRef != nil {
		t.Target.Broker = object.Spec.BrokerRef.Name
	}
	if object.Name == "" {
		p.add("metadata.name", "missing", "name the Trigger")
	} else if why := validation.IsDNS1123Subdomain(object.Name); why != nil {
		p.add("metadata.name", fmt.Sprintf("%q: %s", object.Name, why[0]), "")
	}
	if why := validation.IsDNS1123Label(object.Namespace); why != nil {
		p.add("metadata.namespace", fmt.Sprintf("%q: %s", object.Namespace, why[0]), "")
	}

	ctx := knativeContext()
	object.SetDefaults(ctx)
	readAnnotations(&t.Target, object.Annotations, "metadata.annotations", p)
	delivery := object.Spec.Delivery
	if delivery == nil {
		delivery = broker
	}
	before := len(p.list)
	checkExpressions(object.Spec.Filters, "spec.filters", p)
	if len(p.list) > before {
		// Knative's validation would print to standard error about these.
	} else if invalid := object.Validate(ctx); invalid != nil {
		addFieldErrors(p, invalid)
	} else {
		// Only now: Knative's cesql filter panics on what its validation refuses.
		f := newFilter(&object.Spec, p)
		t.match = newMatcher(f)
		readDelivery(&t.Target, delivery, object.Annotations, p)
		t.checkFilter(&f, p)
		t.Target.URL, t.Target.CACerts = readDestination(object.Spec.Subscriber, object.Namespace, "spec.subscriber", resolve, p)
		t.readDeadLetter(object, delivery, resolve, p)
	}
	if len(p.list) > 0 {
		return nil, &LoadError{Problems: p.list}
	}
	t.spec = describe(object, delivery)
	return t, nil
}

// knativeContext holds what Knative's validation looks for: default feature
// flags (without them delivery.timeout is refused), and a logger that is silent.
func knativeContext() context.Context {
	flags, err := feature.NewFlagsConfigFromMap(nil)
	if err != nil { // only a value in the map could be wrong
		flags = feature.Flags{}
	}
	ctx := feature.ToContext(context.Background(), flags)
	return logging.WithLogger(ctx, zap.NewNop().Sugar())
}

// checkFilter refuses a filter that would hide events from an aggregator.
func (t *Trigger) checkFilter(f *filter, p *problems) {
	if t.Target.Has(Aggregator) && t.Target.Aggregate != "" && !f.passesAll(t.Target.Aggregate) {
		p.add("spec.filters", fmt.Sprintf("an aggregator folds every event of %s, and this filter may hold some back", t.Target.Aggregate),
			fmt.Sprintf("remove it, or write prefix: {type: %s.}; to handle only some commands, use another Trigger for the handler", t.Target.Aggregate))
	}
}

// readDeadLetter reads delivery.deadLetterSink, which is for sinks alone.
func (t *Trigger) readDeadLetter(object *eventingv1.Trigger, delivery *eventingduckv1.DeliverySpec, resolve Resolver, p *problems) {
	if delivery == nil || delivery.DeadLetterSink == nil {
		return
	}
	const field = "spec.delivery.deadLetterSink"
	if !t.Target.Has(Sink) {
		if object.Spec.Delivery != nil { // a Broker's is for its sinks
			p.add(field, fmt.Sprintf("it means nothing for the role %s", joinRoles(t.Target.Roles)),
				"remove it; a command that cannot be handled is held or parked, see "+AnnotationOnFailure)
		}
		return
	}
	address, certs := readDestination(*delivery.DeadLetterSink, object.Namespace, field, resolve, p)
	t.Target.DeadLetter = &Destination{URL: address, CACerts: certs}
}

// readDestination resolves a subscriber or dead letter sink.
func readDestination(d duckv1.Destination, namespace, field string, resolve Resolver, p *problems) (address, certs string) {
	if d.Audience != nil {
		p.add(field+".audience", "OIDC audiences are not supported", "remove it; calls to functions are signed instead")
	}
	if d.CACerts != nil {
		certs = *d.CACerts
		// Knative's validation does not look at certificates beside a ref.
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(certs)) {
			p.add(field+".CACerts", "there is no certificate in it", pemFix)
		}
	}
	var base *url.URL
	if d.Ref != nil {
		ref := Ref{APIVersion: d.Ref.APIVersion, Kind: d.Ref.Kind, Namespace: d.Ref.Namespace, Name: d.Ref.Name}
		if ref.Namespace == "" {
			ref.Namespace = namespace
		}
		switch {
		case ref.Name == "":
			p.add(field+".ref.name", "missing", "name the Service")
			return "", certs
		case d.Ref.Address != nil || d.Ref.Group != "":
			p.add(field+".ref", "address and group are not supported", "write apiVersion, kind and name only")
			return "", certs
		}
		text, err := resolve(ref)
		if err != nil {
			p.add(field+".ref", err.Error(), "")
			return "", certs
		}
		if base, err = url.Parse(text); err != nil {
			p.add(field+".ref", fmt.Sprintf("it resolves to %q, which is no URL", text), "")
			return "", certs
		}
	}
	if d.URI != nil {
		if u := d.URI.URL(); base != nil {
			base = base.ResolveReference(u)
		} else {
			base = u
		}
	}
	switch {
	case base == nil: // Knative's validation has said so
		return "", certs
	case base.Scheme != "http" && base.Scheme != "https":
		p.add(field+".uri", fmt.Sprintf("the scheme %q is not supported", base.Scheme), "write http or https")
	case base.Hostname() == "":
		p.add(field+".uri", "it has no host", "write it as http://host/path")
	case base.User != nil:
		p.add(field+".uri", "it holds a user or password, which would be shown to operators", "remove them; calls to functions are signed instead")
	case base.Fragment != "":
		p.add(field+".uri", fmt.Sprintf("the fragment %q is never sent", base.Fragment), "remove it")
	}
	return base.String(), certs
}

const pemFix = "write certificates in PEM, beginning with -----BEGIN CERTIFICATE-----"

// addFieldErrors translates what Knative's validation found.
func addFieldErrors(p *problems, invalid *apis.FieldError) {
	for _, e := range invalid.WrappedErrors() {
		rule := e.Message
		if rule != "" {
			rule = strings.ToLower(rule[:1]) + rule[1:]
		}
		if e.Details != "" {
			rule += ": " + strings.Join(strings.Fields(e.Details), " ")
		}
		field := strings.Join(e.Paths, ", ")
		if field == "" {
			field = "spec.filters" // the one error that Knative gives no path
		}
		p.add(field, rule, fixFor(field))
	}
}

// fixFor says what to do about a field that Knative's validation refuses.
func fixFor(field string) string {
	last := field[strings.LastIndexByte(field, '.')+1:]
	switch {
	case last == "broker":
		return "name the Broker, for example default"
	case last == "backoffDelay":
		return "write an ISO-8601 duration such as PT0.2S"
	case last == "timeout":
		return "write an ISO-8601 duration longer than nothing, such as PT30S"
	case last == "backoffPolicy":
		return "write linear or exponential"
	case last == "caCert":
		return pemFix
	case last == "retryAfterMax":
		return "remove it; Knative, too, refuses it unless its feature delivery-retryafter is on"
	case last == "filters":
		return "write an entry of the list for each"
	case last == "retry":
		return "write a number from 0"
	case last == "cesql":
		return "see the CloudEvents SQL specification"
	case strings.HasPrefix(field, "spec.subscriber") || strings.HasPrefix(field, "spec.delivery.deadLetterSink"):
		return "write a ref to a Service, or an absolute uri"
	}
	return ""
}
