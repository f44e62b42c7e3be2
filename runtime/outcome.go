package runtime

import "net/http"

// outcome is how a request to a function ended. The server writes the status of
// its outcome, and the client reads the outcome of a status, in one table.
type outcome uint8

const (
	outcomeAnswered    outcome = iota + 1 // results follow
	outcomeMalformed                      // the body is no request of the protocol
	outcomeUntrusted                      // the signature is missing, wrong or old
	outcomeForbidden                      // something before the function refused
	outcomeNoFunction                     // nothing at this path
	outcomeMethod                         // the method is none of the protocol
	outcomeLate                           // the request did not arrive in time
	outcomeChanged                        // the description follows
	outcomeTooLarge                       // the body is over the limit
	outcomeMedia                          // the content type or the protocol's version is another
	outcomeBusy                           // too many at work
	outcomeBroken                         // the server failed
	outcomeBadGateway                     // something before the function has no connection to it
	outcomeUnavailable                    // the function stops, or something before it says so
	outcomeTimeout                        // something before the function gave up
)

// outcomes is that table. kind is what the outcome means for the caller; 0 for
// the two that carry an answer.
var outcomes = map[outcome]struct {
	status int
	kind   CallErrorKind
}{
	outcomeAnswered:    {http.StatusOK, 0},
	outcomeMalformed:   {http.StatusBadRequest, CallFailed},
	outcomeUntrusted:   {http.StatusUnauthorized, CallUnavailable}, // a key is missing or wrong: an operator's matter, not the command's
	outcomeForbidden:   {http.StatusForbidden, CallUnavailable},
	outcomeNoFunction:  {http.StatusNotFound, CallUnavailable}, // not deployed yet
	outcomeMethod:      {http.StatusMethodNotAllowed, CallFailed},
	outcomeLate:        {http.StatusRequestTimeout, CallUnavailable},
	outcomeChanged:     {http.StatusPreconditionFailed, 0},
	outcomeTooLarge:    {http.StatusRequestEntityTooLarge, CallFailed},
	outcomeMedia:       {http.StatusUnsupportedMediaType, CallFailed},
	outcomeBusy:        {http.StatusTooManyRequests, CallUnavailable},
	outcomeBroken:      {http.StatusInternalServerError, CallFailed},
	outcomeBadGateway:  {http.StatusBadGateway, CallUnavailable},
	outcomeUnavailable: {http.StatusServiceUnavailable, CallUnavailable},
	outcomeTimeout:     {http.StatusGatewayTimeout, CallUnavailable},
}

// failures gives each failure its name and the status of an answer that holds
// this one failure and nothing else: so that the platform's own metrics see it.
// An answer to several invocations is 200 whatever is in it. The client does
// not look at the status of an answer that says it is one.
var failures = [...]struct {
	name   string
	status int
}{
	0:                  {"none", http.StatusOK},
	FailureError:       {"error", http.StatusInternalServerError},
	FailurePanic:       {"panic", http.StatusInternalServerError},
	FailureUnknownType: {"unknown-type", http.StatusUnprocessableEntity},
	FailureSchema:      {"schema", http.StatusUnprocessableEntity},
	FailureNoEvents:    {"no-events", http.StatusInternalServerError},
	FailureDeadline:    {"deadline", http.StatusGatewayTimeout},
	FailureStateNeeded: {"state-needed", http.StatusPreconditionRequired},
}

func (o outcome) status() int { return outcomes[o].status }

// kindOfStatus reads the table the other way. A status that is not in it is
// somebody's who is not this protocol's server.
func kindOfStatus(status int) CallErrorKind {
	for _, row := range outcomes {
		if row.status == status && row.kind != 0 {
			return row.kind
		}
	}
	return CallFailed
}
