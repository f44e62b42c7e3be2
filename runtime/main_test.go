package runtime_test

import (
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if code == 0 {
		// On a busy machine a closed connection takes longer to be gone than goleak waits.
		var err error
		for end := time.Now().Add(20 * time.Second); ; {
			if err = goleak.Find(); err == nil || time.Now().After(end) {
				break
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
