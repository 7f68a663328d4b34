//! What a sandbox uses, as its clients count it.

/// The share of its processors that it used over its life so far, in percent to two digits.
pub(crate) fn share(cpu_us: u64, seconds: f64, processors: u32) -> f64 {
    let most = seconds * 1e6 * f64::from(processors);
    if most <= 0.0 {
        return 0.0;
    }
    (cpu_us as f64 / most * 1e4).round() / 100.0
}
