//! Afterwards output names are unique: the second `t` is `t_1`, the third `t_2`.

use std::collections::HashSet;

pub(crate) fn run<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken: HashSet<String> = HashSet::new();
    let mut unique = Vec::new();
    for name in names {
        let mut candidate = name.to_string();
        let mut number = 0;
        while !taken.insert(candidate.clone()) {
            number += 1;
            candidate = format!("{name}_{number}");
        }
        unique.push(candidate);
    }
    unique
}

#[cfg(test)]
mod tests {
    /// Catches a suffix that collides with a name that was there before.
    #[test]
    fn names_get_numbers() {
        assert_eq!(super::run(["t", "t", "t_1", "t"]), ["t", "t_1", "t_1_1", "t_2"]);
    }
}
