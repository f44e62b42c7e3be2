package proof

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/evento-oss/evento/internal/porttest"
)

const cartStack = `version: 1.0
provider: {name: openfaas}
functions:
  cart:
    lang: evento-aggregate
    handler: ./cart
    image: cart:latest
    annotations: {evento.io/role: "handler,aggregator", evento.io/aggregate: Cart}
`

// TestFirstFunction is the way of docs/first-function.md: a function from a
// template, run by evento dev; its source is changed, and the next command is
// answered by the new one.
func TestFirstFunction(t *testing.T) {
	dir := t.TempDir()
	example, err := filepath.EvalSymlinks(filepath.Join(root, "template", "evento-aggregate", "function"))
	if err != nil {
		t.Fatal(err)
	}
	template, err := filepath.Abs(filepath.Join(root, "template"))
	if err != nil {
		t.Fatal(err)
	}
	stack := filepath.Join(dir, "stack.yml")
	if err := errors.Join(os.CopyFS(filepath.Join(dir, "cart"), os.DirFS(example)),
		os.Symlink(template, filepath.Join(dir, "template")), os.WriteFile(stack, []byte(cartStack), 0o600)); err != nil {
		t.Fatal(err)
	}
	address := porttest.Free(t)
	_, port, _ := strings.Cut(address, ":")
	program := evento(t)
	dev := start(t, "dev", program, nil, "dev", "--dir", filepath.Join(dir, ".evento"), "--port", port, "--stack", stack)
	dev.awaitLineFor(t, 4*patience, "broker on") // all functions are built
	dev.awaitLine(t, "Ctrl-C")
	send := func(words ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, append([]string{"send", "--gateway", "http://" + address}, words...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	contains := func(text, word string) {
		t.Helper()
		if !strings.Contains(text, word) {
			t.Fatalf("%q is not in:\n%s", word, text)
		}
	}
	edit := func(file, old, new string) {
		t.Helper()
		path := filepath.Join(dir, "cart", file)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		contains(string(text), old)
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(string(text), old, new)), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	contains(send("cart:1", "AddProduct", "product=tea", "quantity:=2"), "Cart.ProductAdded")
	contains(send("cart:1", "AddProduct", "product=tea", "quantity:=0"), "the quantity 0 is less than 1")

	// The code says otherwise than its test: the former one goes on.
	edit("handler.go", `"the cart is empty"`, `"there is nothing in it"`)
	dev.awaitLine(t, "function cart: the former one goes on")
	dev.awaitLine(t, "FAIL: TestAnEmptyCartIsNotCheckedOut")
	contains(send("cart:2", "CheckOut", "address=here"), "the cart is empty")
	edit("handler_test.go", `"the cart is empty"`, `"there is nothing in it"`)
	dev.awaitLine(t, "function cart runs the new code")
	contains(send("cart:2", "CheckOut", "address=here"), "there is nothing in it")

	// A schema that breaks the old one is refused with the reason, a compatible one is registered.
	edit("Cart.avsc", `{"name": "address", "type": "string"},`, `{"name": "address", "type": "int"},`)
	dev.awaitLine(t, "Cart.avsc is not registered, the former one stays")
	edit("Cart.avsc", `{"name": "address", "type": "int"},`, `{"name": "address", "type": "string"}, {"name": "gift", "type": "boolean", "default": false},`)
	dev.awaitLine(t, "Cart.avsc is registered, new: ", "Cart.CartCheckedOut")
	contains(send("cart:1", "CheckOut", "address=here"), "Cart.CartCheckedOut")
	dev.terminate(t)
}
