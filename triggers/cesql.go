package triggers

import (
	"fmt"
	"strings"
	"time"

	"github.com/antlr/antlr4/runtime/Go/antlr"
	sqlerrors "github.com/cloudevents/sdk-go/sql/v2/errors"
	"github.com/cloudevents/sdk-go/sql/v2/gen"
	cesql "github.com/cloudevents/sdk-go/sql/v2/parser"
	eventingv1 "knative.dev/eventing/pkg/apis/eventing/v1"
	"knative.dev/eventing/pkg/eventfilter/subscriptionsapi"

	"github.com/evento-oss/evento/runtime"
)

// maxExpression is the greatest length of an expression in bytes: to parse
// nothing but brackets takes the library time with the cube of their number,
// a second and a half for as many.
const maxExpression = 2048

// newExpression compiles a cesql filter.
func newExpression(text, field string, p *problems) filter {
	names, err := cesqlNames(text)
	if err != nil { // checkExpressions has said so
		return filter{}
	}
	if err := checkCondition(text); err != nil {
		p.add(field, err.Error(), "write a condition, for example type = 'CheckingAccount.CashWithdrawn'")
		return filter{}
	}
	leaf, err := subscriptionsapi.NewCESQLFilter(text)
	if err != nil {
		p.add(field, err.Error(), "see the CloudEvents SQL specification")
		return filter{}
	}
	return filter{op: opLeaf, leaf: leaf, attributes: names}
}

// checkExpressions refuses what the lexer does not understand, anywhere in filters.
func checkExpressions(filters []eventingv1.SubscriptionsAPIFilter, field string, p *problems) {
	for i := range filters {
		f, at := &filters[i], fmt.Sprintf("%s[%d]", field, i)
		for f.Not != nil {
			f, at = f.Not, at+".not"
		}
		checkExpressions(f.All, at+".all", p)
		checkExpressions(f.Any, at+".any", p)
		if _, err := cesqlNames(f.CESQL); err != nil {
			p.add(at+".cesql", err.Error(), "see the CloudEvents SQL specification")
		}
	}
}

// checkCondition refuses an expression that can never match a message that has
// all attributes: one whose value is no boolean (Knative's filter panics on
// it), or that calls a function that there is not.
func checkCondition(text string) (err error) {
	defer func() {
		if r := recover(); r != nil { // the library did not expect this one
			err = fmt.Errorf("%q cannot be evaluated: %v", text, r)
		}
	}()
	expression, err := cesql.Parse(text)
	if err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	value, err := expression.Evaluate(*newView(sampleMessage()))
	switch _, ok := value.(bool); {
	case sqlerrors.IsMissingFunctionError(err):
		return fmt.Errorf("%q: %w", text, err)
	case err == nil && !ok:
		return fmt.Errorf("the value of %q is a %T and no condition", text, value)
	}
	return nil
}

// sampleMessage has a value for every attribute that filters see.
func sampleMessage() *runtime.Message {
	return &runtime.Message{
		ID: "1", Type: "A.B", Source: "/evento", Subject: "a:1", Schema: "urn:evento:avro:A.B:0000000000000000",
		Time: time.Unix(0, 0), RecordedTime: time.Unix(0, 0), CausationID: "1", CorrelationID: "1",
		TraceParent: "00-0-0-00", Cause: runtime.Coordinates{Topic: "t"}, Expect: new(uint64),
		Sequence: 1, Pos: 1, Count: 1, By: "f", Hash: "0",
	}
}

// cesqlNames lists the attributes that an expression may look at. Names of
// functions are among them: that errs on the safe side, since a name other
// than "type" only means that matches are not remembered. The expression's
// lexer drops characters that it does not know and prints a line about them;
// here they are an error.
func cesqlNames(text string) ([]string, error) {
	if len(text) > maxExpression {
		return nil, fmt.Errorf("the expression has %d bytes, more than the limit of %d", len(text), maxExpression)
	}
	lexer := gen.NewCESQLParserLexer(cesql.NewCaseChangingStream(antlr.NewInputStream(text), true))
	lexer.RemoveErrorListeners()
	var bad lexerErrors
	lexer.AddErrorListener(&bad)
	var names []string
	for {
		token := lexer.NextToken()
		switch token.GetTokenType() {
		case antlr.TokenEOF:
			if bad.first != "" {
				return nil, fmt.Errorf("%q: %s", text, bad.first)
			}
			return names, nil
		case gen.CESQLParserLexerIDENTIFIER, gen.CESQLParserLexerIDENTIFIER_WITH_NUMBER,
			gen.CESQLParserLexerFUNCTION_IDENTIFIER_WITH_UNDERSCORE:
			names = append(names, strings.ToLower(token.GetText()))
		}
	}
}

// lexerErrors keeps the first thing that the lexer did not understand.
type lexerErrors struct {
	antlr.DefaultErrorListener
	first string
}

func (l *lexerErrors) SyntaxError(_ antlr.Recognizer, _ any, _, column int, _ string, _ antlr.RecognitionException) {
	if l.first == "" {
		l.first = fmt.Sprintf("cannot read what stands at column %d", column+1)
	}
}
