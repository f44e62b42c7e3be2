package triggers

import (
	"fmt"
	"strings"
	"time"

	"github.com/rickb777/date/period"
	eventingduckv1 "knative.dev/eventing/pkg/apis/duck/v1"
)

// MaxDuration is the longest that a delay or timeout may be.
const MaxDuration = 24 * time.Hour

// DefaultDelivery returns what holds where a Trigger and its Broker say
// nothing. Retry, policy and delay are those that Knative's webhook gives a
// Broker (ConfigMap config-br-defaults); Knative knows no longest delay and no
// timeout.
func DefaultDelivery() Delivery {
	return Delivery{Retry: 10, Delay: 200 * time.Millisecond, MaxDelay: 30 * time.Second, Timeout: 30 * time.Second}
}

// readDelivery fills the gaps of spec, which Knative has validated; nil means
// that there is none. What is absent from a spec has the default, but one
// thing: a sink without retry is not called again, since Knative replaces the
// Broker's delivery by the Trigger's as a whole. Engine and dispatchers call
// until they succeed, so for them a missing number means nothing but "as usual".
func readDelivery(t *Target, spec *eventingduckv1.DeliverySpec, annotations map[string]string, p *problems) {
	d := DefaultDelivery()
	d.Park = t.Delivery.Park
	if spec != nil {
		const at = "spec.delivery."
		if spec.Retry != nil {
			d.Retry = int(*spec.Retry)
		} else if t.Has(Sink) {
			d.Retry = 0
		}
		if spec.BackoffPolicy != nil {
			d.Linear = *spec.BackoffPolicy == eventingduckv1.BackoffPolicyLinear
		}
		if spec.BackoffDelay != nil {
			d.Delay = readDuration(*spec.BackoffDelay, at+"backoffDelay", p)
		}
		if spec.Timeout != nil {
			d.Timeout = readDuration(*spec.Timeout, at+"timeout", p)
		}
		if spec.Format != nil {
			p.add(at+"format", "it is not supported", "remove it; events are sent in CloudEvents binary mode, their data as "+AnnotationContent+" says")
		}
	}
	d.MaxDelay = max(d.MaxDelay, d.Delay)
	if text, ok := annotations[AnnotationMaxBackoff]; ok {
		field := "metadata.annotations[" + AnnotationMaxBackoff + "]"
		if d.MaxDelay = readDuration(text, field, p); d.MaxDelay < d.Delay {
			p.add(field, fmt.Sprintf("%s is shorter than the first delay, %v", text, d.Delay), "raise it, or lower spec.delivery.backoffDelay")
		}
	}
	t.Delivery = d
}

// readDuration reads an ISO-8601 duration as Knative does (rickb777/date), and
// refuses what Knative would take for something else than what is written.
func readDuration(text, field string, p *problems) time.Duration {
	const fix = "write a positive ISO-8601 duration such as PT0.2S or PT1M30S"
	parsed, err := period.Parse(text)
	if err != nil {
		p.add(field, fmt.Sprintf("%q is not a duration", text), fix)
		return 0
	}
	d, exact := parsed.Duration()
	switch {
	case fractionDigits(text) > 1:
		p.add(field, fmt.Sprintf("%q has more than one decimal, and Knative drops the rest", text), "write tenths, for example PT0.2S")
	case !exact:
		p.add(field, fmt.Sprintf("%q has no fixed length", text), "use hours, minutes and seconds")
	case d <= 0:
		p.add(field, fmt.Sprintf("%q is not longer than nothing", text), fix)
	case d > MaxDuration:
		p.add(field, fmt.Sprintf("%q is longer than the limit of %v", text, MaxDuration), "shorten it")
	default:
		return d
	}
	return 0
}

// fractionDigits counts the digits behind the decimal point of a duration.
func fractionDigits(text string) int {
	i := strings.IndexAny(text, ".,")
	if i < 0 {
		return 0
	}
	rest := text[i+1:]
	return len(rest) - len(strings.TrimLeft(rest, "0123456789"))
}
