// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

import (
	"context"
	"errors"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sony/gobreaker/v2"

	"github.com/minigate/minigate/module/store"
)

// metrics are the gateway's collectors. There is one set in a process, which
// each config registers with its own registry, so that counters go on across
// reloads. No label ever holds what names a user.
type metrics struct {
	logins          *prometheus.CounterVec
	exchangeSeconds *prometheus.HistogramVec
	validated       *prometheus.CounterVec
	cacheHits       prometheus.Counter
	spoofAttempts   prometheus.Counter
	storeSeconds    *prometheus.HistogramVec
	sessionsActive  prometheus.GaugeFunc
	breakerState    *prometheus.GaugeVec
	gateways        prometheus.GaugeFunc

	connectionsOpen   prometheus.Gauge
	connectionsClosed *prometheus.CounterVec

	// the results of validation, looked up once
	validatedOK prometheus.Counter
}

var processMetrics = newMetrics()

func newMetrics() *metrics {
	const namespace, subsystem = "caddy", "miniprogram"
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets}
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}
	}
	m := &metrics{
		logins: prometheus.NewCounterVec(counter("logins_total", "Sign-ins, by their result: ok or the error word."),
			[]string{"platform", "program", "result"}),
		exchangeSeconds: prometheus.NewHistogramVec(histogram("exchange_seconds", "Time the platform took to exchange a login code.",
			prometheus.DefBuckets), []string{"platform", "program"}),
		validated: prometheus.NewCounterVec(counter("sessions_validated_total", "Session tokens checked, by result: ok or the error word."),
			[]string{"result"}),
		cacheHits:     prometheus.NewCounter(counter("cache_hits_total", "Session tokens answered for from memory.")),
		spoofAttempts: prometheus.NewCounter(counter("spoof_attempts_total", "Headers of clients that the guard removed.")),
		storeSeconds: prometheus.NewHistogramVec(histogram("store_seconds", "Time a call to the store took.",
			prometheus.ExponentialBuckets(0.000_01, 4, 10)), []string{"op"}),
		sessionsActive: prometheus.NewGaugeFunc(gauge("sessions_active", "Sessions in the warm cache."), warmSessions),
		breakerState: prometheus.NewGaugeVec(gauge("breaker_state", "Circuit breaker of a program: 0 closed, 1 half open, 2 open."),
			[]string{"platform", "program"}),
		gateways:        prometheus.NewGaugeFunc(gauge("gateways", "Gateways that share the store, this one included."), sharingGateways),
		connectionsOpen: prometheus.NewGauge(gauge("connections_open", "WebSockets and event streams of signed-in users that are open.")),
		connectionsClosed: prometheus.NewCounterVec(counter("connections_closed_total", "WebSockets and event streams that the gateway ended, by reason: the error word, or shutdown."),
			[]string{"reason"}),
	}
	m.validatedOK = m.validated.WithLabelValues("ok")
	return m
}

// warmSessions counts the sessions in all warm caches of the process.
func warmSessions() float64 {
	n := 0
	states.Range(func(_, value any) bool {
		if s, ok := value.(*state); ok {
			n += s.cache.Len()
		}
		return true
	})
	return float64(n)
}

// sharingGateways counts the gateways that share a store with this one.
func sharingGateways() float64 {
	n := 0
	states.Range(func(_, value any) bool {
		if s, ok := value.(*state); ok {
			n = max(n, s.nodes.count())
		}
		return true
	})
	return float64(n)
}

// registerMetrics registers the process's collectors with the registry of ctx.
// It may be called more than once with one registry.
func registerMetrics(ctx caddy.Context) *metrics {
	m := processMetrics
	registry := ctx.GetMetricsRegistry()
	if registry == nil {
		return m
	}
	for _, collector := range []prometheus.Collector{
		m.logins, m.exchangeSeconds, m.validated, m.cacheHits,
		m.spoofAttempts, m.storeSeconds, m.sessionsActive, m.breakerState,
		m.gateways, m.connectionsOpen, m.connectionsClosed,
	} {
		var registered prometheus.AlreadyRegisteredError
		if err := registry.Register(collector); err != nil && !errors.As(err, &registered) {
			ctx.Logger().Warn("metric is not registered: " + err.Error())
		}
	}
	return m
}

// session counts a validation with the given result.
func (m *metrics) session(result string, warm bool) {
	if result == "ok" {
		m.validatedOK.Inc()
	} else {
		m.validated.WithLabelValues(result).Inc()
	}
	if warm {
		m.cacheHits.Inc()
	}
}

// program returns the recorder of one program.
func (m *metrics) program(platform, appID string) *programMetrics {
	return &programMetrics{
		metrics: m, platform: platform, appID: appID,
		seconds: m.exchangeSeconds.WithLabelValues(platform, appID),
		state:   m.breakerState.WithLabelValues(platform, appID),
	}
}

// programMetrics records what happens to one program.
type programMetrics struct {
	metrics         *metrics
	platform, appID string
	seconds         prometheus.Observer
	state           prometheus.Gauge
}

func (m *programMetrics) login(result string) {
	m.metrics.logins.WithLabelValues(m.platform, m.appID, result).Inc()
}

func (m *programMetrics) exchanged(took time.Duration) { m.seconds.Observe(took.Seconds()) }

func (m *programMetrics) breaker(state gobreaker.State) { m.state.Set(float64(state)) }

// timed returns s with the time of its calls recorded.
func (m *metrics) timed(s store.Store) store.Store {
	return &timedStore{
		Store:  s,
		get:    m.storeSeconds.WithLabelValues("get"),
		put:    m.storeSeconds.WithLabelValues("put"),
		update: m.storeSeconds.WithLabelValues("update"),
		delete: m.storeSeconds.WithLabelValues("delete"),
	}
}

// timedStore records the time that calls to a store take.
type timedStore struct {
	store.Store
	get, put, update, delete prometheus.Observer
}

func (s *timedStore) Get(ctx context.Context, key string) ([]byte, error) {
	defer observe(s.get, time.Now())
	return s.Store.Get(ctx, key)
}

func (s *timedStore) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	defer observe(s.put, time.Now())
	return s.Store.Put(ctx, key, value, ttl)
}

func (s *timedStore) Update(ctx context.Context, key string, change store.Change) error {
	defer observe(s.update, time.Now())
	return s.Store.Update(ctx, key, change)
}

func (s *timedStore) Delete(ctx context.Context, key string) error {
	defer observe(s.delete, time.Now())
	return s.Store.Delete(ctx, key)
}

func observe(o prometheus.Observer, start time.Time) { o.Observe(time.Since(start).Seconds()) }
