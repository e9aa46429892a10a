package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The Secrets with certificates.
const (
	clientSecret     = "cluster-autoscaler-provider-tls"
	providerSecret   = "ensemble-autoscaler-provider-tls"
	controllerSecret = "ensemble-autoscaler-controller-tls"
)

const (
	// expiresSoon is how long before its end a certificate is told of: the programs renew theirs 90 days before.
	expiresSoon = 30 * 24 * time.Hour
	// skew is how long before it is issued a certificate begins.
	skew = 24 * time.Hour
)

// clientSecretKey is where Cluster Autoscaler's certificate is, as namespace/name.
func (f *Facts) clientSecretKey() string {
	for i := range f.Provider {
		if key := f.Provider[i].Flags.Value("client-secret", ""); key != "" {
			if !strings.Contains(key, "/") {
				return f.Namespace + "/" + key
			}
			return key
		}
	}
	return f.Namespace + "/" + clientSecret
}

// providerSecretKey is where the certificate of the provider is, as namespace/name; empty where its files come from no Secret.
func (f *Facts) providerSecretKey() string {
	return f.serverSecretKey(f.Provider, "server-secret", providerSecret)
}

// controllerSecretKey is where the certificate of the controller is, as providerSecretKey says it.
func (f *Facts) controllerSecretKey() string {
	return f.serverSecretKey(f.Controller, "tls-secret", controllerSecret)
}

// serverSecretKey is the Secret of a program: the one that it fills, or the one that its files come from.
func (f *Facts) serverSecretKey(of []Pod, flag, otherwise string) string {
	name := otherwise
	for i := range of {
		name = of[i].Flags.Value(flag, name)
	}
	if !issues(of) {
		name = ""
		for i := range of {
			name = cmp.Or(name, of[i].TLSSecret)
		}
	}
	if name == "" {
		return ""
	}
	return f.Namespace + "/" + name
}

// findCertificates looks at the Secrets with certificates: that they are there, and how long they are good.
func findCertificates(f *Facts, _ *Shipped) []Finding {
	var out []Finding
	if !f.knows("secrets") {
		return nil
	}
	for _, row := range []struct {
		key, of string
		pods    []Pod
	}{
		{f.providerSecretKey(), "provider", f.Provider},
		{f.clientSecretKey(), "provider", f.Provider},
		{f.controllerSecretKey(), "controller", f.Controller},
	} {
		own := issues(row.pods)
		if row.key == "" || (!own && row.key == f.clientSecretKey()) {
			// With files its certificate is the business of whoever issues them, and so is what comes from no Secret.
			continue
		}
		out = append(out, findSecret(f, row.key, row.of, own)...)
	}
	return append(out, findChains(f)...)
}

// findSecret looks at one Secret, which a program issues, or somebody else.
func findSecret(f *Facts, key, program string, own bool) []Finding {
	secret, object := f.Secrets[key], "Secret "+key
	namespace, name, _ := strings.Cut(key, "/")
	remedy := fmt.Sprintf("kubectl --namespace %s delete secret %s: the %s makes it again (docs/certificates.md)", namespace, name, program)
	if !own {
		remedy = "have it issued again by its issuer"
	}
	switch {
	case secret == nil && !f.knows("pods"):
		// Which Secrets there have to be the flags of the programs say.
		return nil
	case secret == nil && !own:
		return []Finding{{Error, "SecretMissing", object, "it does not exist, and the " + program + " mounts it", remedy}}
	case secret == nil:
		return []Finding{
			{
				Error, "SecretMissing", object, "it does not exist",
				fmt.Sprintf("look why the %s does not make it: kubectl --namespace %s logs deployment/%s", program, f.Namespace, program),
			},
		}
	case secret.Fault != "":
		return []Finding{{Error, "CertificateInvalid", object, "its certificate cannot be read: " + secret.Fault, remedy}}
	case len(secret.Certificate) == 0:
		return []Finding{
			{
				Error, "CertificateMissing", object, "it has no certificate in tls.crt",
				fmt.Sprintf("look why the %s does not fill it: kubectl --namespace %s logs deployment/%s", program, f.Namespace, program),
			},
		}
	}
	c := secret.Certificate[0]
	switch end := c.NotAfter; {
	case !f.Now.Before(end):
		return []Finding{
			{
				Error, "CertificateExpired", object,
				fmt.Sprintf("its certificate has expired at %s; it was issued at %s", formatTime(end), formatTime(c.NotBefore.Add(skew))), remedy,
			},
		}
	case f.Now.Before(c.NotBefore):
		return []Finding{
			{Error, "CertificateNotYetValid", object, "its certificate begins at " + formatTime(c.NotBefore), "look at the clocks of the nodes"},
		}
	case end.Sub(f.Now) < expiresSoon:
		return []Finding{
			{Warning, "CertificateExpiresSoon", object, "its certificate ends at " + formatTime(end) + " and was not renewed", remedy},
		}
	}
	return nil
}

// findChains looks at whether those who trust each other can: the provider trusts the certificate of Cluster Autoscaler, and the latter
// that of the provider.
func findChains(f *Facts) []Finding {
	server, client := f.Secrets[f.providerSecretKey()], f.Secrets[f.clientSecretKey()]
	if !issues(f.Provider) || server == nil || client == nil || len(server.Certificate) == 0 || len(client.Certificate) == 0 ||
		!good(f.Now, server.Certificate) || !good(f.Now, client.Certificate) {
		return nil
	}
	var out []Finding
	remedy := "delete both Secrets and restart provider and Cluster Autoscaler (docs/certificates.md)"
	name := fmt.Sprintf("%s.%s.svc", serviceProvider, f.Namespace)
	if err := client.Authorities.vouches(server.Certificate, name, f.Now); err != nil {
		out = append(
			out,
			Finding{
				Error, "CertificateNotTrusted", "Secret " + f.clientSecretKey(), "Cluster Autoscaler does not trust the provider: " + err.Error(),
				remedy,
			},
		)
	}
	if err := server.Authorities.vouches(client.Certificate, "", f.Now); err != nil {
		out = append(
			out,
			Finding{
				Error, "CertificateNotTrusted", "Secret " + f.clientSecretKey(), "the provider does not trust Cluster Autoscaler: " + err.Error(),
				remedy,
			},
		)
	}
	if names := clientNames(f); !slices.Contains(names, client.Certificate[0].Subject.CommonName) {
		out = append(out, Finding{
			Error, "ClientNotNamed", "Secret " + f.clientSecretKey(),
			fmt.Sprintf(
				"its certificate is for %q, and the provider answers %s (--client-names)", client.Certificate[0].Subject.CommonName,
				strings.Join(names, ", "),
			), remedy,
		})
	}
	return out
}

func clientNames(f *Facts) []string {
	for i := range f.Provider {
		if names := f.Provider[i].Flags.Value("client-names", ""); names != "" {
			return strings.Split(names, ",")
		}
	}
	return []string{nameAutoscaler}
}

func good(now time.Time, of Certificates) bool {
	return now.After(of[0].NotBefore) && now.Before(of[0].NotAfter)
}

func formatTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }
