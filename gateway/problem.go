package gateway

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// problemKind is one row of the table of everything that the HTTP face
// answers instead of a result. The name is stable: clients decide by it.
type problemKind struct {
	name   string
	status int
	title  string
}

// problemPrefix begins the type of each problem document (RFC 9457, 3.1.1).
const problemPrefix = "urn:evento:problem:"

// The table. Each status says who must do something: 400 and 422 the sender
// before it repeats, 409 and 412 the sender after it looked, 429 and 503 nobody
// but time.
var (
	problemMalformed        = problemKind{"malformed", http.StatusBadRequest, "The request cannot be read"}
	problemAttribute        = problemKind{"invalid-attribute", http.StatusBadRequest, "An attribute is missing or wrong"}
	problemReserved         = problemKind{"reserved-attribute", http.StatusBadRequest, "The attribute is set by the platform alone"}
	problemReservedSource   = problemKind{"reserved-source", http.StatusBadRequest, "The source is the platform's own"}
	problemDuplicate        = problemKind{"duplicate-attribute", http.StatusBadRequest, "An attribute is given more than once"}
	problemMixed            = problemKind{"mixed-encoding", http.StatusBadRequest, "A CloudEvent is either binary or structured"}
	problemParameter        = problemKind{"invalid-parameter", http.StatusBadRequest, "A query parameter or header is unknown or wrong"}
	problemUnauthenticated  = problemKind{"unauthenticated", http.StatusUnauthorized, "A valid bearer token is needed"}
	problemForbidden        = problemKind{"forbidden", http.StatusForbidden, "The principal lacks the right"}
	problemSourceForbidden  = problemKind{"source-not-allowed", http.StatusForbidden, "The principal may not use this source"}
	problemHost             = problemKind{"host-not-allowed", http.StatusForbidden, "The gateway does not answer under this host name"}
	problemOrigin           = problemKind{"origin-not-allowed", http.StatusForbidden, "A web page of another origin may not do this"}
	problemNoRoute          = problemKind{"no-such-route", http.StatusNotFound, "There is nothing at this path"}
	problemNoAggregate      = problemKind{"aggregate-not-found", http.StatusNotFound, "There is no such aggregate"}
	problemNoEntity         = problemKind{"entity-not-found", http.StatusNotFound, "The aggregate has no such entity"}
	problemNoCommand        = problemKind{"command-not-found", http.StatusNotFound, "The aggregate has seen no such command"}
	problemNoSchema         = problemKind{"schema-not-found", http.StatusNotFound, "The type or version is not registered"}
	problemNoParked         = problemKind{"parked-not-found", http.StatusNotFound, "No command is set aside at these coordinates"}
	problemNoMessage        = problemKind{"message-not-found", http.StatusNotFound, "No committed message stands there"}
	problemNoCause          = problemKind{"cause-not-found", http.StatusNotFound, "The cause of a message cannot be found"}
	problemNoTrigger        = problemKind{"trigger-not-found", http.StatusNotFound, "No such Trigger is declared"}
	problemMethod           = problemKind{"method-not-allowed", http.StatusMethodNotAllowed, "The path does not take this method"}
	problemNotAcceptable    = problemKind{"not-acceptable", http.StatusNotAcceptable, "The answer has none of the accepted types"}
	problemLate             = problemKind{"too-slow", http.StatusRequestTimeout, "The request did not come whole in time"}
	problemPositionGone     = problemKind{"position-gone", http.StatusGone, "The stream cannot go on from Last-Event-ID"}
	problemConflict         = problemKind{"id-reused", http.StatusConflict, "The id was used for another type, target or value"}
	problemVersionMismatch  = problemKind{"version-mismatch", http.StatusPreconditionFailed, "The aggregate does not have the expected version"}
	problemBehind           = problemKind{"version-not-reached", http.StatusPreconditionFailed, "The aggregate has not reached min-version"}
	problemTooLarge         = problemKind{"too-large", http.StatusRequestEntityTooLarge, "The message is larger than the limit"}
	problemMediaType        = problemKind{"unsupported-media-type", http.StatusUnsupportedMediaType, "The content type is not taken here"}
	problemUnknownType      = problemKind{"unknown-type", http.StatusUnprocessableEntity, "The type is not registered"}
	problemWrongKind        = problemKind{"wrong-kind", http.StatusUnprocessableEntity, "The type is not of the kind that is taken here"}
	problemWrongTarget      = problemKind{"wrong-target", http.StatusUnprocessableEntity, "The type does not fit the entity"}
	problemSchema           = problemKind{"schema-mismatch", http.StatusUnprocessableEntity, "The data does not match its schema"}
	problemSchemaRefused    = problemKind{"schema-refused", http.StatusUnprocessableEntity, "The schema file breaks a rule"}
	problemBatch            = problemKind{"invalid-batch", http.StatusUnprocessableEntity, "Items of the batch are wrong; nothing was accepted"}
	problemTooManyWaiting   = problemKind{"too-many-waiting", http.StatusTooManyRequests, "Too many commands of the aggregate are waiting"}
	problemInternal         = problemKind{"internal", http.StatusInternalServerError, "The gateway failed"}
	problemCauseLoop        = problemKind{"cause-loop", http.StatusInternalServerError, "The chain of causes runs in a circle"}
	problemBroken           = problemKind{"aggregate-broken", http.StatusInternalServerError, "The aggregate's log contradicts itself; it is stopped"}
	problemUnavailable      = problemKind{"unavailable", http.StatusServiceUnavailable, "The gateway cannot do this at the moment"}
	problemOverloaded       = problemKind{"overloaded", http.StatusServiceUnavailable, "The gateway is at its limit"}
	problemKafkaAway        = problemKind{"kafka-away", http.StatusServiceUnavailable, "Kafka is away; nothing was accepted"}
	problemUncertain        = problemKind{"uncertain", http.StatusServiceUnavailable, "It is not known whether the message was accepted"}
	problemBatchIncomplete  = problemKind{"batch-incomplete", http.StatusServiceUnavailable, "Not every item of the batch was accepted"}
	problemOwnerUnknown     = problemKind{"owner-unknown", http.StatusServiceUnavailable, "No gateway owns the aggregate at the moment"}
	problemOwnerUnreachable = problemKind{"owner-unreachable", http.StatusServiceUnavailable, "The owning gateway does not answer"}
)

// problem is an answer that is not a result: RFC 9457. It is an error, so that
// a handler returns it and one place writes it.
type problem struct {
	kind       problemKind
	detail     string
	members    map[string]any // extension members, by name
	retryAfter time.Duration
	headers    http.Header
	cause      error // for the log, never for the client
}

// fail makes a problem with a detail that says what and where, and what to do.
func fail(kind problemKind, format string, args ...any) *problem {
	return &problem{kind: kind, detail: fmt.Sprintf(format, args...)}
}

func (p *problem) Error() string {
	if p.cause != nil {
		return p.kind.name + ": " + p.detail + ": " + p.cause.Error()
	}
	return p.kind.name + ": " + p.detail
}

func (p *problem) Unwrap() error { return p.cause }

// with sets an extension member: "field", "limit", "setting", "id" and the like.
func (p *problem) with(name string, value any) *problem {
	if p.members == nil {
		p.members = map[string]any{}
	}
	p.members[name] = value
	return p
}

func (p *problem) field(name string) *problem { return p.with("field", name) }

// limit names the limit that was met, its value in its own unit, and the setting that moves it.
func (p *problem) limit(setting string, value int64) *problem {
	return p.with("setting", setting).with("limit", value)
}

func (p *problem) because(err error) *problem {
	p.cause = err
	return p
}

func (p *problem) after(d time.Duration) *problem {
	p.retryAfter = d
	return p
}

func (p *problem) header(name, value string) *problem {
	if p.headers == nil {
		p.headers = http.Header{}
	}
	p.headers.Set(name, value)
	return p
}

// document is the JSON object of RFC 9457.
func (p *problem) document() map[string]any {
	doc := make(map[string]any, len(p.members)+4)
	for k, v := range p.members {
		doc[k] = v
	}
	doc["type"] = problemPrefix + p.kind.name
	doc["title"] = p.kind.title
	doc["status"] = p.kind.status
	doc["detail"] = p.detail
	return doc
}

// write answers with the problem. Headers that a handler set before for a
// result (ETag, Location) are the caller's concern.
func (p *problem) write(w http.ResponseWriter) {
	body, err := json.Marshal(p.document())
	if err != nil { // members are ours; a value that cannot be written is a mistake here
		body = []byte(`{"type":"` + problemPrefix + `internal","status":500}`)
	}
	h := w.Header()
	for k, v := range p.headers {
		h[k] = v
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(p.retryAfter.Seconds()))))
	}
	w.WriteHeader(p.kind.status)
	w.Write(append(body, '\n')) // the client may be gone, and nobody else is to be told
}
