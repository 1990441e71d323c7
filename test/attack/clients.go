package main

// Client certificates on the port that asks for them: every kind that is not the one, on both
// versions of TLS, with requests that are signed well.

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"
)

// clientSubject is whom the port lets in.
const clientSubject = "cks.kms.us-east-1.amazonaws.com"

// authority is a CA. The attacker has its key: what it signs for others must not be enough.
type authority struct {
	Certificate []byte // PEM
	Key         []byte // DER
}

func newAuthority() (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := newTemplate("clients' CA")
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return authority{}, err
	}
	return authority{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), private,
	}, nil
}

// newTemplate is a client's certificate as AWS KMS has one.
func newTemplate(subject string) *x509.Certificate {
	number, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // it does not fail
	return &x509.Certificate{
		SerialNumber: number, Subject: pkix.Name{CommonName: subject},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
}

// shown is what a client shows.
type shown struct {
	name        string
	good        bool
	certificate *tls.Certificate // nil: none
}

// issuer collects certificates.
type issuer struct {
	by    *x509.Certificate
	key   crypto.Signer
	shown []shown
	err   error // the first
}

// add issues a certificate after an edit of the good one.
func (i *issuer) add(name string, edit func(*x509.Certificate)) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.fail(name, err)
		return nil
	}
	template := newTemplate(clientSubject)
	edit(template)
	by, signer := i.by, i.key
	if by == nil {
		by, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), signer)
	if err != nil {
		i.fail(name, err)
		return nil
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	i.shown = append(i.shown, shown{name: name, certificate: c})
	return c
}

func (i *issuer) fail(name string, err error) {
	if i.err == nil {
		i.err = fmt.Errorf("%s: %w", name, err)
	}
}

func subject(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.CommonName = name }
}

// allShown are the certificates of all clients, the good one first.
func allShown(ca authority) ([]shown, error) {
	block, _ := pem.Decode(ca.Certificate)
	by, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParseECPrivateKey(ca.Key)
	if err != nil {
		return nil, err
	}
	i := &issuer{by: by, key: key}
	i.add("the right one", subject(clientSubject))
	i.shown[0].good = true
	for _, name := range []string{"cks.kms.eu-central-1.amazonaws.com", "CKS.kms.us-east-1.amazonaws.com", clientSubject + ".", " " + clientSubject, clientSubject + "\x00", "x." + clientSubject,
		clientSubject + ".example.com", "*.kms.us-east-1.amazonaws.com", "*", "", "kms.us-east-1.amazonaws.com", clientSubject + "," + clientSubject} {
		i.add(fmt.Sprintf("subject %q", name), subject(name))
	}
	i.add(
		"the name as a DNS name only",
		func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{}, []string{clientSubject} },
	)
	i.add(
		"the name as organization",
		func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{clientSubject}} },
	)
	i.add("two names", func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: []int{2, 5, 4, 3}, Value: "x"}, {Type: []int{2, 5, 4, 3}, Value: clientSubject},
		}
	})
	i.add("expired", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	i.add("not yet valid", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })
	i.add(
		"for servers",
		func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	)
	leaf := i.add("of another client as CA", subject("other"))
	i.by, i.key = nil, nil
	i.add("self-signed", subject(clientSubject))
	i.add("self-signed, with the CA's name", func(c *x509.Certificate) { c.Subject = by.Subject })
	i.chain(leaf)
	if i.err != nil {
		return nil, i.err
	}
	stolen := *i.shown[0].certificate
	stolen.PrivateKey = key // not its own
	return append(
		i.shown, shown{name: "none"},
		shown{name: "the right one without its key", certificate: &stolen},
	), nil
}

// chain adds one issued by a client that is no CA, with that client's certificate as intermediate.
func (i *issuer) chain(leaf *tls.Certificate) {
	if leaf == nil {
		return
	}
	by, err := x509.ParseCertificate(leaf.Certificate[0])
	if err != nil {
		i.fail("of another client", err)
		return
	}
	i.by, i.key = by, leaf.PrivateKey.(crypto.Signer)
	c := i.add("issued by a client", subject(clientSubject))
	if c != nil {
		c.Certificate = append(c.Certificate, leaf.Certificate[0])
	}
}

// clientCertificates shows each to the port, on both versions of TLS, over both of HTTP, alone and
// with a session of the port that asks for none.
func clientCertificates(ctx context.Context, t *target, n *tally) error {
	all, err := allShown(t.ClientCA)
	if err != nil {
		return err
	}
	there := *t
	there.API = t.Mutual
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, s := range all {
			if ctx.Err() != nil {
				return fmt.Errorf("not all certificates were shown: %w", ctx.Err())
			}
			config := t.tlsConfig("http/1.1")
			config.MinVersion, config.MaxVersion = version, version
			s.ask(&there, n, config, "alone")
			s.ask(&there, n, t.resuming(config), "with a session of the other port")
			config.NextProtos = []string{"h2"}
			s.askHTTP2(&there, n, config)
		}
	}
	return nil
}

// resuming is a config with a session of the port that asks for no certificate.
func (t *target) resuming(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	c := &wire{target: t, config: config}
	_, _ = c.ask(
		newSketch(t, &t.Tenants[0], "/health", healthBody()).bytes(),
	) // the session comes with the answer
	c.close()
	return config
}

// showing has a client show the certificate whatever the server asks for.
func (s shown) showing(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if s.certificate == nil {
			return new(tls.Certificate), nil
		}
		return s.certificate, nil
	}
	return config
}

func (s shown) ask(t *target, n *tally, config *tls.Config, how string) {
	c := &wire{target: t, config: s.showing(config)}
	defer c.close()
	for _, signed := range []bool{true, false} {
		request := newSketch(t, &t.Tenants[0], "/keys/1/encrypt", encryptBody("mTLS"))
		if !signed {
			request.secret = t.Tenants[1].Credential.Secret
		}
		r, err := c.ask(request.bytes())
		if err != nil && r == nil {
			err = errClosed // in the handshake or, with TLS 1.3, right after it
		}
		n.noteReply(r, err)
		s.judge(
			n, r != nil, r != nil && r.status == 200, signed,
			fmt.Sprintf("%s, %s", tls.VersionName(config.MaxVersion), how),
		)
	}
}

func (s shown) askHTTP2(t *target, n *tally, config *tls.Config) {
	c, err := t.dialH2With(s.showing(config))
	answer := "closed"
	if err == nil {
		request := newSketch(t, &t.Tenants[0], "/keys/1/encrypt", encryptBody("mTLS"))
		answer, err = c.ask(fieldsOf(request), bytes.Clone(request.body))
		c.close()
		if err != nil {
			answer = "closed"
		}
	}
	n.note("HTTP/2 " + answer)
	s.judge(
		n, answer != "closed", answer == "200", true, tls.VersionName(config.MaxVersion)+", HTTP/2",
	)
}

// judge: who does not show the right one gets no answer at all; who does, needs a credential
// anyway.
func (s shown) judge(n *tally, answered, served, signed bool, how string) {
	switch {
	case s.good && served && signed:
		n.legal()
	case s.good && signed:
		n.remark("the right certificate is not served (%s)", how)
		n.accept(
			"nothing: the right certificate was refused (%s), so that the row shows nothing", how,
		)
	case s.good && !served:
	case answered:
		n.accept("certificate %s: it was answered (%s)", s.name, how)
	}
}
