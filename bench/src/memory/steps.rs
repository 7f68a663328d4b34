//! Where our time goes, as the server says.

/// Of one thing.
pub(super) struct Steps {
    what: &'static str,
    all: Vec<(String, Vec<f64>)>,
}

impl Steps {
    pub(super) fn new(what: &'static str) -> Self {
        let all = Vec::new();
        Self { what, all }
    }

    pub(super) fn add(&mut self, steps: Vec<(String, f64)>) {
        for (name, took) in steps {
            match self.all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, all)) => all.push(took),
                None => self.all.push((name, vec![took])),
            }
        }
    }

    /// Their medians in words, if there are any.
    pub(super) fn note(&self) -> Option<String> {
        let step = |(name, all): &(String, Vec<f64>)| {
            let mut sorted = all.clone();
            sorted.sort_by(f64::total_cmp);
            format!("{name} {:.1}", sorted[sorted.len() / 2])
        };
        let steps: Vec<String> = self.all.iter().map(step).collect();
        let (what, steps) = (self.what, steps.join(", "));
        (!self.all.is_empty()).then(|| format!("Steps of our {what}, medians in ms: {steps}."))
    }
}
