package live

import (
	"testing"

	"github.com/evento-oss/evento/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
