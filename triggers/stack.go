package triggers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/drone/envsubst"
	"github.com/openfaas/go-sdk/stack"
	"gopkg.in/yaml.v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/pkg/apis"
	duckv1 "knative.dev/pkg/apis/duck/v1"
)

// The annotations that only a function in a stack.yml has: what a Trigger says
// in its filters and delivery.
const (
	AnnotationCommands      = "evento.io/commands"       // handler: "WithdrawCash,ReceiveDeposit"; default all of the aggregate
	AnnotationEvents        = "evento.io/events"         // dispatcher, sink: "CheckingAccount.CashWithdrawn,SavingsAccount.*"; "*" for all
	AnnotationSchema        = "evento.io/schema"         // what it was built with, for people
	AnnotationRetry         = "evento.io/retry"          // a number from 0
	AnnotationBackoffPolicy = "evento.io/backoff-policy" // linear or exponential
	AnnotationBackoffDelay  = "evento.io/backoff-delay"  // ISO-8601 duration
	AnnotationTimeout       = "evento.io/timeout"        // ISO-8601 duration
)

func stackAnnotations() []string {
	return []string{AnnotationCommands, AnnotationEvents, AnnotationSchema, AnnotationRetry,
		AnnotationBackoffPolicy, AnnotationBackoffDelay, AnnotationTimeout}
}

// StackNamespace is the namespace in the names of Triggers whose function names
// none: where OpenFaaS puts functions.
const StackNamespace = "openfaas-fn"

// Stack is a [Source] that derives Triggers from the functions of a stack.yml
// that have the annotation evento.io/role. The others are not ours.
type Stack struct {
	Path     string
	Function FunctionURL                 // nil for [OpenFaaS] with the gateway that the file names
	Environ  func(string) (string, bool) // what ${NAME} in the file stands for; nil for [os.LookupEnv]
	Watcher  Watcher
	Log      *slog.Logger
}

// String is the path.
func (s *Stack) String() string { return s.Path }

// Watch implements [Source].
func (s *Stack) Watch(ctx context.Context, changed func()) error {
	return s.Watcher.run(ctx, s.Log, []string{s.Path}, changed)
}

// Load implements [Source].
func (s *Stack) Load(context.Context) (Loaded, error) {
	text, err := readFile(s.Path)
	if err != nil {
		return Loaded{}, &LoadError{Problems: []Problem{fileProblem(s.Path, err)}}
	}
	return s.parse(text)
}

// parse derives the Triggers.
func (s *Stack) parse(text []byte) (Loaded, error) {
	p := &problems{at: Problem{File: s.Path}}
	services, ok := s.services(text, p)
	if !ok {
		return Loaded{}, &LoadError{Problems: p.list}
	}
	function := s.Function
	if function == nil {
		function = OpenFaaS(cmp.Or(services.Provider.GatewayURL, "http://127.0.0.1:8080")) // faas-cli's default
	}
	var loaded Loaded
	for _, name := range slices.Sorted(maps.Keys(services.Functions)) {
		f := services.Functions[name]
		p.at.Object = "function " + name
		var annotations map[string]string
		if f.Annotations != nil {
			annotations = *f.Annotations
		}
		if _, ours := annotations[AnnotationRole]; !ours {
			if i := slices.IndexFunc(slices.Sorted(maps.Keys(annotations)), isOurs); i >= 0 {
				p.add("annotations["+AnnotationRole+"]", "missing, though other "+annotationPrefix+" annotations are there", "write handler, aggregator, \"handler,aggregator\", dispatcher or sink")
			} else {
				loaded.Skipped = append(loaded.Skipped, s.Path+": function "+name)
			}
			continue
		}
		before := len(p.list)
		object := newStackTrigger(name, f, annotations, function, p)
		if len(p.list) > before {
			continue
		}
		t, err := New(object, nil, Origin{File: s.Path}, ServiceURL)
		if err != nil {
			addProblems(p, err)
			continue
		}
		t.at.Object = p.at.Object
		t.Target.From = s.Path + ", function " + name
		loaded.Triggers = append(loaded.Triggers, t)
	}
	if len(p.list) > 0 {
		return Loaded{}, &LoadError{Problems: p.list}
	}
	return loaded, nil
}

func isOurs(annotation string) bool { return strings.HasPrefix(annotation, annotationPrefix) }

// services reads the file as faas-cli does, ${NAME} included.
func (s *Stack) services(text []byte, p *problems) (services *stack.Services, ok bool) {
	if len(text) > maxFileBytes {
		p.add("", fmt.Sprintf("the file has more bytes than the limit of %d", maxFileBytes), "split it")
		return nil, false
	}
	environ := s.Environ
	if environ == nil {
		environ = os.LookupEnv
	}
	defer func() {
		if r := recover(); r != nil { // the template or YAML library did not expect this file
			p.add("", fmt.Sprintf("cannot be read: %v", r), "see the OpenFaaS YAML reference")
			ok = false
		}
	}()
	substituted, err := envsubst.Eval(string(text), func(name string) string {
		value, _ := environ(name)
		return value
	})
	if err != nil {
		p.add("", "a ${...} cannot be read: "+err.Error(), "write ${NAME} or ${NAME:-default}")
		return nil, false
	}
	// The parser below prints to standard output when this fails.
	if err := yaml.Unmarshal([]byte(substituted), &stack.Services{}); err != nil {
		p.add("", yamlReason(err), "")
		return nil, false
	}
	services, err = stack.ParseYAMLData([]byte(substituted), "", "", false)
	if err != nil {
		p.add("", err.Error(), "")
		return nil, false
	}
	return services, true
}

// trigger writes the Trigger that a function's annotations stand for.
func newStackTrigger(name string, f stack.Function, annotations map[string]string, function FunctionURL, p *problems) *eventingv1.Trigger {
	object := &eventingv1.Trigger{ObjectMeta: metav1.ObjectMeta{Namespace: cmp.Or(f.Namespace, StackNamespace), Name: name}}
	object.Spec.Broker = "default"
	object.Annotations = map[string]string{}
	known := append(slices.Collect(maps.Keys(triggerAnnotations())), stackAnnotations()...)
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		switch {
		case !isOurs(key) || slices.Contains(stackAnnotations(), key): // the latter is read below
		case !slices.Contains(known, key):
			p.add(at(key), "unknown annotation", "known are "+strings.Join(slices.Sorted(slices.Values(known)), ", "))
		default:
			object.Annotations[key] = annotations[key]
		}
	}
	address, err := function(f.Namespace, name)
	if err != nil {
		p.add("", err.Error(), "")
	} else if u, err := apis.ParseURL(address); err != nil {
		p.add("", fmt.Sprintf("%q is no URL to call it at", address), "")
	} else {
		object.Spec.Subscriber = duckv1.Destination{URI: u}
	}

	roles := readRoles(annotations, at(AnnotationRole), p)
	aggregate := annotations[AnnotationAggregate]
	handler, aggregator := slices.Contains(roles, Handler), slices.Contains(roles, Aggregator)
	commands, hasCommands := annotations[AnnotationCommands]
	events, hasEvents := annotations[AnnotationEvents]
	switch {
	case roles == nil: // reported
	case hasCommands && !handler:
		p.add(at(AnnotationCommands), fmt.Sprintf("it means nothing for the role %s", joinRoles(roles)), "remove it; it is for handler")
	case hasCommands && aggregator:
		p.add(at(AnnotationCommands), "a function that is also the aggregator handles all commands", "remove it, or make the handler a function of its own")
	case hasEvents && (handler || aggregator):
		p.add(at(AnnotationEvents), fmt.Sprintf("it means nothing for the role %s", joinRoles(roles)), "remove it; it is for dispatcher and sink")
	case hasCommands:
		object.Spec.Filters = typeFilters(commands, aggregate, at(AnnotationCommands), p)
	case handler || aggregator:
		if aggregate != "" {
			object.Spec.Filters = []eventingv1.SubscriptionsAPIFilter{{Prefix: map[string]string{"type": aggregate + "."}}}
		}
	case !hasEvents:
		p.add(at(AnnotationEvents), "missing", `say which events it is given, for example "CheckingAccount.CashWithdrawn", "CheckingAccount.*", or "*" for all`)
	default:
		object.Spec.Filters = typeFilters(events, "", at(AnnotationEvents), p)
	}
	object.Spec.Delivery = stackDelivery(annotations, p)
	return object
}

// typeFilters reads a list of types as filters; namespace is put before names without one.
func typeFilters(value, namespace, field string, p *problems) []eventingv1.SubscriptionsAPIFilter {
	var parts []eventingv1.SubscriptionsAPIFilter
	for item := range strings.SplitSeq(value, ",") {
		item = strings.TrimSpace(item)
		prefix, all := strings.CutSuffix(item, "*")
		switch {
		case item == "*" && namespace == "":
			return nil
		case item == "*":
			parts = append(parts, eventingv1.SubscriptionsAPIFilter{Prefix: map[string]string{"type": namespace + "."}})
		case all && strings.HasSuffix(prefix, ".") && aggregateName.MatchString(strings.TrimSuffix(prefix, ".")) && namespace == "":
			parts = append(parts, eventingv1.SubscriptionsAPIFilter{Prefix: map[string]string{"type": prefix}})
		case !aggregateName.MatchString(item):
			p.add(field, fmt.Sprintf("%q is not the name of a type", item), "write names with commas between them")
		case namespace != "" && !strings.Contains(item, "."):
			parts = append(parts, eventingv1.SubscriptionsAPIFilter{Exact: map[string]string{"type": namespace + "." + item}})
		case namespace != "" && !strings.HasPrefix(item, namespace+"."):
			p.add(field, fmt.Sprintf("%q is not of the aggregate %s", item, namespace), "a handler is given only its aggregate's commands")
		case namespace == "" && !strings.Contains(item, "."):
			p.add(field, fmt.Sprintf("%q does not say of which aggregate it is", item), "write it in full, for example CheckingAccount."+item)
		default:
			parts = append(parts, eventingv1.SubscriptionsAPIFilter{Exact: map[string]string{"type": item}})
		}
	}
	if len(parts) < 2 {
		return parts
	}
	return []eventingv1.SubscriptionsAPIFilter{{Any: parts}}
}

// stackDelivery reads what a Trigger says in spec.delivery; nil for nothing.
func stackDelivery(annotations map[string]string, p *problems) *eventingduckv1.DeliverySpec {
	d := &eventingduckv1.DeliverySpec{}
	if value, ok := annotations[AnnotationRetry]; ok {
		n, err := strconv.ParseInt(value, 10, 32)
		if err != nil || n < 0 {
			p.add(at(AnnotationRetry), fmt.Sprintf("%q is not a number from 0", value), "")
		}
		retry := int32(n)
		d.Retry = &retry
	}
	if value, ok := annotations[AnnotationBackoffPolicy]; ok {
		policy := eventingduckv1.BackoffPolicyType(value)
		d.BackoffPolicy = &policy
	}
	if value, ok := annotations[AnnotationBackoffDelay]; ok {
		d.BackoffDelay = &value
	}
	if value, ok := annotations[AnnotationTimeout]; ok {
		d.Timeout = &value
	}
	if *d == (eventingduckv1.DeliverySpec{}) {
		return nil
	}
	if d.Retry == nil {
		retry := int32(DefaultDelivery().Retry) // a stack.yml knows no Broker that the delivery would replace
		d.Retry = &retry
	}
	return d
}

// addProblems translates what is wrong with a Trigger into the words of the
// stack.yml that it was made from.
func addProblems(p *problems, err error) {
	words := strings.NewReplacer(
		"metadata.annotations", "annotations",
		"spec.delivery.backoffDelay", at(AnnotationBackoffDelay),
		"spec.delivery.backoffPolicy", at(AnnotationBackoffPolicy),
		"spec.delivery.timeout", at(AnnotationTimeout),
		"spec.delivery.retry", at(AnnotationRetry),
		"metadata.name", "its name",
		"metadata.namespace", "namespace",
		"spec.subscriber.uri", "its URL",
	)
	var list *LoadError
	if errors.As(err, &list) {
		for _, one := range list.Problems {
			p.add(words.Replace(one.Field), one.Rule, words.Replace(one.Fix))
		}
	}
}

// at is the path of a function's annotation.
func at(annotation string) string { return "annotations[" + annotation + "]" }
