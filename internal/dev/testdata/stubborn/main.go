// A function that does not end when it is asked to.
package main

import (
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signal.Ignore(syscall.SIGTERM)
	http.HandleFunc("/_/health", func(http.ResponseWriter, *http.Request) {})
	http.ListenAndServe(os.Getenv("EVENTO_BIND")+":"+os.Getenv("PORT"), nil)
}
