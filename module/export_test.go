// SPDX-FileCopyrightText: The Minigate Authors
// SPDX-License-Identifier: Apache-2.0

package module

// ForgetRefusals lets users whose data was refused try again at once.
func (h *Handler) ForgetRefusals() {
	refusals := h.app.running.Load().state.refusals
	refusals.mu.Lock()
	defer refusals.mu.Unlock()
	refusals.counts = nil
}
