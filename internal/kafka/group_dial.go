package kafka

import (
	"context"
	"errors"
	"net"
	"syscall"

	"github.com/twmb/franz-go/pkg/kgo"
)

// dialAgain has a member of a group try again what failed because a broker could not
// be reached.
//
// Asked who coordinates the group, the client library takes any broker that it knows,
// for some seconds also one that is dead, and when that happens to it twice in a row
// the heartbeat has failed, and the member has left. It tries again for as long as it
// may only where dialing has failed for a passing reason. That is not said to the
// clients that write and read: they would not ask who leads instead.
func dialAgain(client []kgo.Opt) (kgo.Opt, error) {
	// The options say how to dial, and only a client can tell.
	asked, err := newClient(client)
	if err != nil {
		return nil, err
	}
	defer asked.Close()
	dial := asked.OptValue(kgo.Dialer).(func(context.Context, string, string) (net.Conn, error))
	return kgo.Dialer(func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		var failed *net.OpError
		if ctx.Err() != nil || !errors.As(err, &failed) || failed.Op != "dial" || forGood(err) {
			return conn, err
		}
		again := *failed
		again.Err = unreached(failed.Err.Error())
		return nil, &again
	}), nil
}

// forGood says whether dialing will fail as long as nobody changes a configuration.
func forGood(err error) bool {
	var name *net.DNSError
	return errors.As(err, &name) && name.IsNotFound || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM)
}

// unreached is why a broker could not be dialed. The cause is only told, not wrapped:
// the library would look into it and find that nobody listens, which it takes for good.
type unreached string

func (u unreached) Error() string   { return string(u) }
func (u unreached) Temporary() bool { return true }
