package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// Settings is one snapshot of all settings. It is never changed after it is made;
// share it freely.
type Settings struct {
	Autoscaler    Autoscaler
	Defaults      Defaults
	Network       Network
	Domain        Domain
	GC            GC
	Deployment    Deployment
	Features      Features
	CertManager   CertManager
	Gateway       Gateway
	Observability Observability
	Eventing      Eventing
}

// Names of the ConfigMaps.
const (
	ConfigAutoscaler    = "config-autoscaler"
	ConfigDefaults      = "config-defaults"
	ConfigNetwork       = "config-network"
	ConfigDomain        = "config-domain"
	ConfigGC            = "config-gc"
	ConfigDeployment    = "config-deployment"
	ConfigFeatures      = "config-features"
	ConfigCertManager   = "config-certmanager"
	ConfigGateway       = "config-ebb-gateway"
	ConfigObservability = "config-observability"
	ConfigEventing      = "config-ebb-eventing"
)

// ErrUnknownConfigMap is returned by Update for a name that holds no settings.
var ErrUnknownConfigMap = errors.New("no settings are read from this ConfigMap")

// Names lists the ConfigMaps that settings are read from, sorted.
func Names() []string {
	return []string{
		ConfigAutoscaler, ConfigCertManager, ConfigDefaults, ConfigDeployment, ConfigDomain,
		ConfigEventing, ConfigGateway, ConfigFeatures, ConfigGC, ConfigNetwork, ConfigObservability,
	}
}

// Default returns the settings of a platform without any ConfigMap.
func Default() *Settings {
	s := &Settings{}
	for _, name := range Names() {
		// No data is always good: every key has a default.
		if err := s.parse(name, nil); err != nil {
			panic(fmt.Sprintf("settings: the defaults of %s are bad: %v", name, err))
		}
	}
	return s
}

// With returns a copy of the settings with one ConfigMap's part replaced by what its
// data says; keys that are absent take their defaults. It fails with
// ErrUnknownConfigMap, or with an error that names the ConfigMap and each bad key.
func (s *Settings) With(configMap string, data map[string]string) (*Settings, error) {
	next := *s
	if err := next.parse(configMap, data); err != nil {
		return nil, err
	}
	return &next, nil
}

func (s *Settings) parse(configMap string, data map[string]string) error {
	p := newParser(configMap, data)
	switch configMap {
	case ConfigAutoscaler:
		return finish(p, &s.Autoscaler, parseAutoscaler(p))
	case ConfigDefaults:
		return finish(p, &s.Defaults, parseDefaults(p))
	case ConfigNetwork:
		return finish(p, &s.Network, parseNetwork(p))
	case ConfigDomain:
		return finish(p, &s.Domain, parseDomain(p))
	case ConfigGC:
		return finish(p, &s.GC, parseGC(p))
	case ConfigDeployment:
		return finish(p, &s.Deployment, parseDeployment(p))
	case ConfigCertManager:
		return finish(p, &s.CertManager, parseCertManager(p))
	case ConfigGateway:
		return finish(p, &s.Gateway, parseGateway(p))
	case ConfigObservability:
		return finish(p, &s.Observability, parseObservability(p))
	case ConfigEventing:
		return finish(p, &s.Eventing, parseEventing(p))
	case ConfigFeatures:
		return finish(p, &s.Features, parseFeatures(p))
	}
	return fmt.Errorf("ConfigMap %q: %w; it must be one of %v", configMap, ErrUnknownConfigMap, Names())
}

func finish[T any](p *parser, into *T, value T) error {
	if err := p.err(); err != nil {
		return err
	}
	*into = value
	return nil
}

// Store holds the current settings. It is safe for concurrent use; make it with NewStore.
type Store struct {
	current atomic.Pointer[Settings]

	mu          sync.Mutex                   // serializes Update and Subscribe
	taken       map[string]map[string]string // data that was taken last, by ConfigMap
	subscribers []chan struct{}
}

// NewStore returns a store that holds the defaults.
func NewStore() *Store {
	s := &Store{taken: map[string]map[string]string{}}
	s.current.Store(Default())
	return s
}

// Load returns the current snapshot. It never blocks and never returns nil.
func (s *Store) Load() *Settings { return s.current.Load() }

// Update takes the data of a ConfigMap; nil data (the ConfigMap is gone) means the
// defaults. Data that was taken already changes nothing and wakes nobody. On an error nothing changes: the last good settings stay. The errors are
// those of Settings.With.
func (s *Store) Update(configMap string, data map[string]string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if taken, ok := s.taken[configMap]; ok && maps.Equal(data, taken) {
		return nil
	}
	next, err := s.current.Load().With(configMap, data)
	if err != nil {
		return err
	}
	s.taken[configMap] = maps.Clone(data)
	s.current.Store(next)
	for _, c := range s.subscribers {
		select {
		case c <- struct{}{}:
		default: // one is waiting already, and its reader loads what is current then
		}
	}
	return nil
}

// Given says whether a ConfigMap's data, as it was taken last, has a key.
func (s *Store) Given(configMap, key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.taken[configMap][key]
	return ok
}

// Subscribe returns a channel that gets a value after each successful Update; updates
// that are not read in time are merged into one. It is never closed.
func (s *Store) Subscribe() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := make(chan struct{}, 1)
	s.subscribers = append(slices.Clip(s.subscribers), c)
	return c
}
