"""Facts from a small table. A fact is trained on; the phrasing asked in evaluation is not."""

from random import Random
from typing import Final

from model.family.tasks.task import Extract, Kind, Task, ask

COUNTRIES: Final = tuple(
    tuple(row.split())
    for row in """
France Paris Europe|Germany Berlin Europe|Italy Rome Europe|Spain Madrid Europe|Portugal Lisbon Europe
Greece Athens Europe|Poland Warsaw Europe|Austria Vienna Europe|Norway Oslo Europe|Sweden Stockholm Europe
Ireland Dublin Europe|Hungary Budapest Europe|Egypt Cairo Africa|Kenya Nairobi Africa|Morocco Rabat Africa
Ghana Accra Africa|Japan Tokyo Asia|China Beijing Asia|India Delhi Asia|Thailand Bangkok Asia|Peru Lima America
Cuba Havana America|Chile Santiago America|Canada Ottawa America
""".strip()
    .replace("\n", "|")
    .split("|")
)
LEGS: Final = (("spider", 8), ("cat", 4), ("dog", 4), ("bee", 6), ("ant", 6), ("bird", 2), ("horse", 4), ("crab", 10))
CAPITAL = (
    "What is the capital of {c}?",
    "Which city is the capital of {c}?",
    "Name the capital of {c}.",
    "Tell me the capital of {c}.",
    "Do you know the capital of {c}?",
    "capital of {c}?",
)
COUNTRY = (
    "Which country has the capital {k}?",
    "{k} is the capital of which country?",
    "In which country is {k}?",
    "Name the country of {k}.",
    "Where is {k}?",
    "{k} is in which country?",
)
CONTINENT = (
    "On which continent is {k}?",
    "Which continent is {k} in?",
    "What continent is {k} on?",
    "Name the continent of {k}.",
    "{k} is on which continent?",
)
LEG = ("How many legs does a {a} have?", "How many legs has a {a}?", "Tell me how many legs a {a} has.")


def facts(rng: Random, level: int) -> Task:
    """Capitals and legs; then a capital's country or a country's continent; then a capital's continent."""
    country, capital, continent = rng.choice(COUNTRIES)
    extract = Extract.LAST_NAME
    if level == 1 and rng.random() < 0.2:
        animal, legs = rng.choice(LEGS)
        question, value, extract = rng.choice(LEG).format(a=animal), str(legs), Extract.LAST_NUMBER
        answer = f"It has {legs} legs."
    elif level == 1:
        question, value = rng.choice(CAPITAL).format(c=country), capital
        answer = rng.choice((f"The capital of {country} is {capital}.", f"It is {capital}."))
    elif level == 2 and rng.random() < 0.6:
        question, value = rng.choice(COUNTRY).format(k=capital), country
        answer = f"It is in {country}." if "in" in question.split() else f"It is {country}."
    else:
        place = country if level == 2 else capital
        question, value = rng.choice(CONTINENT).format(k=place), continent
        answer = rng.choice((f"It is in {continent}.", f"That is in {continent}."))
    return ask(Kind.FACTS, level, question, answer, extract, value, question)
