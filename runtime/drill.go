package runtime

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// drill makes calls go wrong on purpose, so that one can see what the platform
// does then, with a function that has no fault: EVENTO_DRILL names a file, which
// is read at each call to handle a command. Each line says for one aggregate what
// goes wrong:
//
//	checking:54321-90 error the disk is on fire
//	checking:54321-91 exit
//
// "error" fails the call. "exit" ends the process in the middle of it, once: the
// file is removed before. No file, no drill.
type drill string

// strike says what goes wrong with a call about an aggregate, if anything.
func (d drill) strike(a AggregateID) *Failure {
	if d == "" {
		return nil
	}
	text, err := os.ReadFile(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &Failure{Code: FailureError, Message: fmt.Sprintf("EVENTO_DRILL: %v", err)}
	}
	for line := range strings.Lines(string(text)) {
		who, what, _ := strings.Cut(strings.TrimSpace(line), " ")
		if who != string(a) {
			continue
		}
		kind, message, _ := strings.Cut(what, " ")
		switch kind {
		case "error":
			return &Failure{Code: FailureError, Message: "drill: " + message}
		case "exit":
			if err := os.Remove(string(d)); err == nil {
				os.Exit(3)
			}
		default:
			return &Failure{Code: FailureError, Message: fmt.Sprintf("EVENTO_DRILL: %q is neither error nor exit", kind)}
		}
	}
	return nil
}
