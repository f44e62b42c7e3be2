package triggers

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Ref names a Kubernetes object that receives events.
type Ref struct {
	APIVersion, Kind, Namespace, Name string
}

// Resolver says at which URL a Trigger's subscriber.ref is reached. Its error
// is shown as what is wrong with the ref.
type Resolver func(Ref) (string, error)

// ServiceURL is the [Resolver] that needs no cluster: Services, Kubernetes' and
// Knative's alike, are reached by their name in the cluster's DNS. It does not
// look whether they exist.
func ServiceURL(ref Ref) (string, error) {
	group, _, _ := strings.Cut(ref.APIVersion, "/")
	if ref.Kind != "Service" || ref.APIVersion != "v1" && group != "serving.knative.dev" {
		return "", fmt.Errorf("%s %s cannot be resolved without a cluster; name a Service (v1 or serving.knative.dev/v1), or write spec.subscriber.uri", ref.APIVersion, ref.Kind)
	}
	return "http://" + ref.Name + "." + ref.Namespace + ".svc.cluster.local", nil
}

// FunctionURL says at which URL a function of a stack.yml is called. namespace
// is "" when the file names none. Its error is shown beside the function's name.
type FunctionURL func(namespace, name string) (string, error)

// OpenFaaS calls functions through an OpenFaaS gateway: <gateway>/function/<name>,
// with .<namespace> behind the name where the file names one.
func OpenFaaS(gateway string) FunctionURL {
	return func(namespace, name string) (string, error) {
		u, err := url.Parse(gateway)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", fmt.Errorf("the OpenFaaS gateway %q is no http URL; write it as http://127.0.0.1:8080", gateway)
		}
		if namespace != "" {
			name += "." + namespace
		}
		return u.JoinPath("function", name).String(), nil
	}
}

// Local calls functions at the URLs given by name.
func Local(urls map[string]string) FunctionURL {
	return func(_, name string) (string, error) {
		if u, ok := urls[name]; ok {
			return u, nil
		}
		return "", errors.New("no URL is known for it")
	}
}
