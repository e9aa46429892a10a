package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// findWebhooks looks at whether the webhooks that are shipped are installed, are answered, and are trusted.
func findWebhooks(f *Facts, shipped *Shipped) []Finding {
	if !f.knows(webhooksOf(validatingWebhooks)) || !f.knows(webhooksOf(mutatingWebhooks)) {
		return nil
	}
	var out []Finding
	installed := map[string]*Webhook{}
	for i := range f.Webhooks {
		installed[f.Webhooks[i].Configuration+" "+f.Webhooks[i].Name] = &f.Webhooks[i]
	}
	silent := map[string][]string{}
	// known are the configurations and Services of which a finding has said already why they do not answer.
	known, reasons := map[string]bool{}, map[string]bool{}
	for _, configuration := range slices.Sorted(maps.Keys(shipped.Webhooks)) {
		_, name, _ := strings.Cut(configuration, " ")
		if kind := kindWebhooks[name]; (name == gates && !f.gatedByWebhook()) || (kind != "" && !f.manages(kind)) {
			continue
		}
		for _, name := range shipped.Webhooks[configuration] {
			w := installed[configuration+" "+name]
			if w == nil {
				out = append(out, Finding{
					Error, "WebhookMissing", configuration, fmt.Sprintf(
						"it has no webhook %s: what that judges or completes is stored as it is", name,
					), "make deploy",
				})
				continue
			}
			if finding := trusts(f, w); finding != nil {
				if !reasons[configuration+finding.Reason] {
					out = append(out, *finding)
				}
				known[configuration], reasons[configuration+finding.Reason] = true, true
			}
			if w.Service != "" && f.knows("endpointslices.discovery.k8s.io") && f.Endpoints[w.Service] == 0 {
				silent[w.Service] = append(silent[w.Service], name)
			}
		}
	}
	for _, service := range slices.Sorted(maps.Keys(silent)) {
		namespace, name, _ := strings.Cut(service, "/")
		known[service] = true
		out = append(out, Finding{
			Error, "WebhookUnreachable", "Service " + service,
			fmt.Sprintf("it has no ready endpoint: the API server refuses what the webhooks %s would judge", strings.Join(silent[service], ", ")),
			fmt.Sprintf(
				"kubectl --namespace %s get endpointslices --selector kubernetes.io/service-name=%s; kubectl --namespace %s get pods", namespace,
				name, namespace,
			),
		})
	}
	return append(out, findUncalled(f, known)...)
}

// trusts looks at whether the API server trusts who answers a webhook.
func trusts(f *Facts, w *Webhook) *Finding {
	object := w.Configuration
	remedy := fmt.Sprintf(
		"the controller writes its authority there: kubectl --namespace %s logs deployment/controller; with manifests/overlays/files it is "+
			"yours to write",
		f.Namespace,
	)
	switch {
	case w.Fault != "":
		return &Finding{Error, "CABundleInvalid", object, fmt.Sprintf("caBundle of %s cannot be read: %s", w.Name, w.Fault), remedy}
	case len(w.CABundle) == 0 && w.Service == "":
		return nil
	case len(w.CABundle) == 0:
		return &Finding{
			Error, "CABundleMissing", object, fmt.Sprintf("caBundle of %s is empty: the API server trusts nobody who answers", w.Name), remedy,
		}
	}
	server := f.Secrets[f.controllerSecretKey()]
	if server == nil || len(server.Certificate) == 0 || w.Service == "" || !good(f.Now, server.Certificate) {
		return nil
	}
	namespace, name, _ := strings.Cut(w.Service, "/")
	if err := w.CABundle.vouches(server.Certificate, name+"."+namespace+".svc", f.Now); err != nil {
		return &Finding{
			Error, "CABundleWrong", object, fmt.Sprintf("caBundle of %s does not vouch for the certificate of the controller: %s", w.Name, err),
			remedy,
		}
	}
	return nil
}

// gatedByWebhook reports whether a webhook gives pods their gate, as before Kubernetes 1.36.
func (f *Facts) gatedByWebhook() bool {
	return slices.ContainsFunc(f.Webhooks, func(w Webhook) bool { return strings.HasSuffix(w.Configuration, " "+gates) })
}
