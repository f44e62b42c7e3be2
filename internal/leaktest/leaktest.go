// Package leaktest fails tests that leave goroutines behind. It is goleak with
// patience: goleak itself looks for half a second, and on a busy machine a
// connection that was closed takes longer to be gone.
package leaktest

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines have for their end. It costs nothing when they
// are gone; what leaks is there for ever.
const patience = 20 * time.Second

// Main runs a package's tests and fails it when a goroutine outlives them.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := find(patience); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// None fails the test when there are goroutines that the options do not leave out.
func None(t testing.TB, options ...goleak.Option) {
	t.Helper()
	if err := find(patience, options...); err != nil {
		t.Error(err)
	}
}

func find(patience time.Duration, options ...goleak.Option) (err error) {
	for end := time.Now().Add(patience); ; {
		if err = goleak.Find(options...); err == nil || time.Now().After(end) {
			return err
		}
	}
}
